"""Rankers of given candidates: how likely is a click."""
