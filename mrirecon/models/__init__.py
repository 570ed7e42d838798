"""The networks, one file each, opening with its paper's update equation. Shared parts are in `blocks`.

Every network is a `Reconstructor`: a Measurement goes in, complex image estimates come out. No files are read here.
"""
