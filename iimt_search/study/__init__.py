"""The study: storage, search, executors, confirmation, retraining, choice."""
