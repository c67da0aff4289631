"""From finished trials to an answer: candidates, vetoes, fresh seeds, the choice and its caveats.

Nothing here proposes trials, or reads a target label.
"""
