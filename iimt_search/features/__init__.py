"""Features of images, made once by a pretrained network that stays as it is, and kept.

What trains on them does not belong here, nor how such a network is built.
"""
