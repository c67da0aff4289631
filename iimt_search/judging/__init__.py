"""Judging models that others trained, from files of what they predict, by the rules of a study.

The files' form, and the choice among them. No target label: :mod:`iimt_search.auditing.models` reads them.
"""
