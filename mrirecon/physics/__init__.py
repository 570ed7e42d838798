"""The forward model A = M F S and what it is made of: Fourier transforms, sampling masks, coil maps.

Also the contract between physics and methods: what a method receives (`Measurement`) and what it is (`Reconstructor`).
No files, no networks.
"""
