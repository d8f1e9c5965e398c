"""Recommenders that learn a vector for every user and item, and nothing of their order."""
