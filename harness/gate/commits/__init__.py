"""Checks out, builds and measures two commits in interleaved turns."""
