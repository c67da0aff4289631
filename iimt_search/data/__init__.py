"""Domains and domain tasks."""
