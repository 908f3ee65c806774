"""Processes that run cases beside this one, and the protocol that they are asked through."""
