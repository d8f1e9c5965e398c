"""Recommenders that learn from what a language model makes of texts, and answer without it."""
