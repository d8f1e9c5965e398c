"""Torch parts that models share: blocks, losses, the trainer, the beam decoder."""
