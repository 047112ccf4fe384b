"""What serves a request: a model on GPUs under an engine, resolved from names, and many of them as columns."""
