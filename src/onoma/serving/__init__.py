"""A run that answers over HTTP: live events, new items, keys, metrics."""
