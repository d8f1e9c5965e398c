"""Names as coloured tokens: equal prefixes have equal colours wherever they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nicegui import ui

_GOLDEN = 137.508  # degrees between neighbouring codes, so that none are alike
_SPREAD = 46.0  # degrees that a deeper code may turn its parent's colour

Prefix = tuple[int, ...]


def prefixes(names: Iterable[Sequence[int] | None]) -> set[Prefix]:
    """All beginnings of names."""
    return {
        tuple(name[:end]) for name in names if name is not None for end in range(1, len(name) + 1)
    }


def hue(prefix: Sequence[int]) -> float:
    """Degrees of a prefix's colour: its first code chooses, later ones turn it ever less."""
    turned = prefix[0] * _GOLDEN % 360
    for level, code in enumerate(prefix[1:], start=1):
        turned += (code * _GOLDEN % 360 / 360 - 0.5) * _SPREAD / level
    return round(turned % 360, 1)


def draw(name: Sequence[int] | None, shared: set[Prefix] | None = None) -> None:
    """The tokens of a name.

    Args:
        name: codes; nothing is drawn for None.
        shared: prefixes that get their colour, others stay grey; None colours all.
    """
    if not name:
        return
    told = "-".join(map(str, name))
    common = max(
        (n for n in range(len(name) + 1) if shared and tuple(name[:n]) in shared), default=0
    )
    label = f"name {told}" + (f", the first {common} shared with the history" if common else "")
    row = ui.element("span").classes("name")
    row.props["role"], row.props["aria-label"], row.props["title"] = "img", label, label
    with row:
        for end in range(1, len(name) + 1):
            prefix = tuple(name[:end])
            token = ui.label(str(name[end - 1])).classes("token")
            if shared is None or prefix in shared:
                token.classes("lit").style(f"--h:{hue(prefix)}")
