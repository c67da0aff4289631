"""Running jobs: in this process, in worker processes, or by Ray; an executor knows nothing of Optuna."""
