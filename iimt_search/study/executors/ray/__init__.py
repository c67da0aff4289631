"""The Ray Tune executor. Ray is imported in this package alone."""
