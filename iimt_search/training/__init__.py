"""The trainable: one configuration, trained, evaluated, checkpointed, exported."""
