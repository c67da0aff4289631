"""From an answer to models: the retraining, and which trainings are handed out together."""
