"""Many scans, unattended: found, each reconstructed in a process apart, checked, recorded, and reported on.

What a folder holds when all is done is the same whatever was killed on the way; see docs/batch.md.
"""
