"""mrirecon: accelerated-MRI reconstruction, trained in the morning and run at night.

A scan's k-space comes in from a file, is reconstructed by a method (a trained network or compressed sensing), is
judged, and leaves as an image with its provenance. Research software, not a medical device.
"""

__version__ = "0.1.0"
