"""Where a study's records lie: the database, its lock, and the driver's storage in it.

Optuna and SQL live here; nothing here knows what is searched or chosen.
"""
