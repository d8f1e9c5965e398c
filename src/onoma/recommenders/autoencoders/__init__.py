"""Recommenders that read a history as a set and give the set back, completed."""
