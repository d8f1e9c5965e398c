"""Recommenders: one system a file."""

from onoma.recommenders.base import Ranking, Recommender, Requests, top_k

__all__ = ["Ranking", "Recommender", "Requests", "top_k"]
