"""Recommenders without gradients: the rows every table starts with."""
