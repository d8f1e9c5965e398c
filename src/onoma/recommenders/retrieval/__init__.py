"""Recommenders that find items by what is asked."""
