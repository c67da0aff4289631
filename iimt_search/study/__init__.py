"""A study from its space to its choice: run, resume, record, read.

Each step is a package: ``search``, ``executors``, ``selection``, ``retraining``; ``storage`` is beneath them.
"""
