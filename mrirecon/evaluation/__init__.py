"""How good the reconstructions are: methods × masks × accelerations over scans, comparison figures, the report.

Metrics themselves are plain functions in `mrirecon.metrics`, because training uses them too.
"""
