"""A user's own image files: found in a folder or named by a list, and read into a domain.

What is in one image file, and how it becomes a sample, is told by ``data/images.py``.
"""
