"""Proposing trials: sampler, pruner, budget, forks.

Nothing here decides what is handed out.
"""
