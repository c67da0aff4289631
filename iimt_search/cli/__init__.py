"""The command line: one file for each verb; click and printing live here only.

A verb parses its options, calls the library (``api.py``), and prints.
"""

from iimt_search.cli.main import main

__all__ = ["main"]
