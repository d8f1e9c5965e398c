"""Honest measurement: metrics, slices, significance, the audit of a benchmark."""
