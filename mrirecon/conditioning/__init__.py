"""From what a file holds to k-space that methods can be run on: known corrections, each recorded, each switchable."""
