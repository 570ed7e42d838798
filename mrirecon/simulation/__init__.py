"""Scans that never were: head phantoms, contrasts, lesions, coils, phase and noise, as arrays.

From tissue parameters and signal equations, or from a volume or label map that the user gives. No files are written
here; `mrirecon.export.fastmri` does that.
"""
