"""Language models tuned on the log."""
