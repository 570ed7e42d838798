"""Reconstruction without training: zero-filled, conjugate-gradient SENSE, compressed sensing; all Reconstructors."""
