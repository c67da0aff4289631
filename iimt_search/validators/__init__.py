"""Label-free validators: one file each, listed in the registry."""
