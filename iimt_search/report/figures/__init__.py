"""The figures of a study: each file gathers and draws one of them, from records alone."""
