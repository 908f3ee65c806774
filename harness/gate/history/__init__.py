"""Runs over time: an append-only store in a folder or a git branch, and a page of trends."""
