"""How results leave: atomic files, HDF5, PNG."""
