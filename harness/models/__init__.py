"""Models with any attention inside: whole-model cases, Long Range Arena's model, and transformers' seam."""
