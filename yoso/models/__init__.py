"""YOSO's models with the API of Hugging Face transformers: configuration, layers, encoder and task heads."""
