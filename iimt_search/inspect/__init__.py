"""A task's data as training will see it, before anything is trained: checks and pictures."""
