"""Other toolboxes' weights, mapped onto the networks here. Importers see dictionaries of tensors, never files."""
