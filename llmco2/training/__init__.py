"""Training: losses in log space over whatever a run knows, a thin LightningModule, the command line, the checkpoint."""
