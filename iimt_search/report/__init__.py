"""The report of a study: one HTML page, and its figures one by one.

It reads records and kept predictions; it trains nothing and decides nothing.
"""
