"""The domains that have a name, one file each; ``data/registry.py`` lists them."""
