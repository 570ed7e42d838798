"""Scans as training material: fully sampled slices in, undersampled Measurements with their targets out."""
