"""scikit-learn's forms of what the library does: a search as an estimator, and validators as scorers.

Nothing here decides anything: it calls the library, as the command line does.
"""
