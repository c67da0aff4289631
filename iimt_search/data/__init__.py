"""Domains and domain tasks: reading, preparing and keeping samples, and what augments them.

Nothing here knows of training. Target labels leave it by ``sealed.py`` alone.
"""
