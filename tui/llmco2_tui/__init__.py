"""The terminal screen: what the GPUs draw, what llmco2 predicted for the work, and how far apart the two are.

Invariant: widgets show, threads fetch, messages carry. The application is handed its source of readings and its
predictor; no widget knows the application, the driver or the catalog. Samples carry cumulative counters, so a
reading that never reaches the screen costs a pixel and never a joule. The library never imports this package.
"""
