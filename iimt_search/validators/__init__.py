"""Label-free validators: one file each, listed in the registry.

Pure functions of predictions; what a file needs beyond them does not belong here.
"""
