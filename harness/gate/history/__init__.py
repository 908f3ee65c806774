"""Runs over time: an append-only store, its git branch, trends and their page."""
