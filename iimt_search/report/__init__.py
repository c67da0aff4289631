"""What is drawn and measured after a run."""
