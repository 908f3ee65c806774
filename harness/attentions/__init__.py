"""The attentions under measurement, one file each; entry points in pyproject.toml name them."""
