"""The command line: one file for each verb; click and printing live on this floor only."""

from iimt_search.cli.main import main

__all__ = ["main"]
