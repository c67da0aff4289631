"""Networks: encoders by name, the classifier on them, the discriminator."""
