"""Training on measured kernels: a LightningModule, its callbacks, the command line, the export."""
