"""Training a task's model with an attention inside: ``train.train`` is what a task case runs."""
