"""The real program in a process of its own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from endure import Program, Senders, counted, some_items  # noqa: E402

__all__ = ["Program", "Senders", "counted", "some_items"]
