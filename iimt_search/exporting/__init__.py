"""Models for use without a study: their folder, cards, formats, loading and prediction.

Nothing here knows of trials, storages or executors.
"""
