"""What a scan is and where it comes from: `Scan`, one reader per file format, detection by content.

Readers know formats and nothing about methods; everything after them knows Scans and nothing about formats.
"""
