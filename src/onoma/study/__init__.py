"""Experiments over a list of methods, one file a question."""
