"""Calibration: a few measured runs of one GPU and engine, turned into a record that the predictor applies."""
