"""Benchmarks: measurements that take minutes and print medians, ratios or correlations."""
