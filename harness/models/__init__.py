"""Models with any attention inside: whole-model cases, the Long Range Arena model, and the seam to transformers."""
