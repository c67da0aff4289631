"""The executor that runs jobs as Ray Tune trials, on this machine or on a cluster."""
