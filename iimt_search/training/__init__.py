"""The trainable: one configuration on its tasks, trained, evaluated, checkpointed, its predictions kept.

It knows neither Optuna nor Ray, and sees no target label.
"""
