"""The release of a checkpoint: held-out fits, one fit on all rows, the export and its model card."""
