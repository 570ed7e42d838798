"""Models for use: safetensors files that carry their own config and model card, and the ones shipped with the package.

Checkpoint archives are opened here and nowhere else. Nothing that arrives from outside is unpickled.
"""
