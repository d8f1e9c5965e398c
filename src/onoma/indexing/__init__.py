"""Items to names: the index contract, the trie, and one file a method of naming."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from onoma.errors import OnomaError
from onoma.indexing.index import IndexMethod, ItemIndex

if TYPE_CHECKING:
    from onoma.indexing.agreement import Agreement
    from onoma.indexing.health import Health
    from onoma.indexing.stability import Stability
    from onoma.indexing.trie import Trie

METHODS: dict[str, str] = {
    "balanced": "onoma.indexing.balanced:BalancedNames",
    "collaborative": "onoma.indexing.collaborative:CollaborativeNames",
    "fsq": "onoma.indexing.fsq:FSQ",
    "graph": "onoma.indexing.graph:GraphNames",
    "hkmeans": "onoma.indexing.hierarchical:HierarchicalNames",
    "hybrid": "onoma.indexing.hybrid:HybridNames",
    "independent": "onoma.indexing.independent:IndependentNames",
    "letter": "onoma.indexing.letter:LetterNames",
    "lsh": "onoma.indexing.hashing:HashedNames",
    "modal": "onoma.indexing.modal:ModalNames",
    "opq": "onoma.indexing.product:OptimisedProductNames",
    "parallel": "onoma.indexing.parallel:ParallelNames",
    "pq": "onoma.indexing.product:ProductNames",
    "random": "onoma.indexing.random_names:RandomNames",
    "rqkmeans": "onoma.indexing.rqkmeans:RQKMeans",
    "rqkmeans+": "onoma.indexing.rqvae:RQKMeansPlus",
    "rqvae": "onoma.indexing.rqvae:RQVAE",
    "semantic": "onoma.indexing.semantic:SemanticNames",
    "sequential": "onoma.indexing.sequential:SequentialNames",
    "streaming": "onoma.indexing.streaming:StreamingNames",
    "title": "onoma.indexing.title:TitleNames",
    "uniform": "onoma.indexing.uniform:UniformNames",
}
_LAZY = {
    "Agreement": "onoma.indexing.agreement",
    "Health": "onoma.indexing.health",
    "Stability": "onoma.indexing.stability",
    "Trie": "onoma.indexing.trie",
}

__all__ = [
    "METHODS", "Agreement", "Health", "IndexMethod", "ItemIndex", "Stability", "Trie", "build",
]  # fmt: skip


def build(name: str, **settings: Any) -> IndexMethod:
    """The method of naming called ``name``, with its settings.

    Raises:
        OnomaError: an unknown method or setting.
    """
    if name not in METHODS:
        raise OnomaError(f"no way of naming called {name!r}", fix=f"Known: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    method: type[IndexMethod] = getattr(import_module(module), attribute)
    try:
        return method(**settings)
    except TypeError as error:
        raise OnomaError(str(error), where=f"index method {name}") from None


def __getattr__(attribute: str) -> Any:
    if attribute in _LAZY:
        return getattr(import_module(_LAZY[attribute]), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
