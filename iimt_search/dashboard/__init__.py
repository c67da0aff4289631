"""What the Optuna dashboard shows of a study beside Optuna's own pages."""
