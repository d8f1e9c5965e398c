"""The shared suite is large enough, and no recommender of the registry goes without it."""

import importlib
from pathlib import Path

from conformance import Conformance

from onoma.recommenders.registry import RECOMMENDERS


def test_every_registered_recommender_inherits_the_suite():
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(path.stem)
    waiting, known = [Conformance], set()
    while waiting:
        for suite in waiting.pop().__subclasses__():
            waiting.append(suite)
            if suite.make is not Conformance.make:
                known.add(suite().make().name)
    assert known >= set(RECOMMENDERS), set(RECOMMENDERS) - known


def test_the_suite_has_at_least_forty_checks():
    assert sum(name.startswith("test_") for name in dir(Conformance)) >= 40
