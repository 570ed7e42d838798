"""Speed and memory on the machine at hand: ours, the hardware's floor, and other programs side by side.

A section (`run.SECTIONS`) is a function that measures and yields rows; methods that are compared take turns.
"""
