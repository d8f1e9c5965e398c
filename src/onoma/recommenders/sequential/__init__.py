"""Models over item ids in order."""
