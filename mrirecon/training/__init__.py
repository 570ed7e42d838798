"""Training: the Lightning module, losses, callbacks, and the run itself."""
