"""After the choice: the sealed target labels, and what they say of the choice and of every validator.

Nothing below this package may import ``data/sealed.py``.
"""
