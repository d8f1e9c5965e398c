"""The prompt library: versioned texts in files, and how titles are put into them."""

from __future__ import annotations

import hashlib
import json
import string
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onoma.errors import OnomaError

_LARGEST = 100_000  # bytes of a template file
LONGEST = 160  # characters of one title


@dataclass(frozen=True)
class Domain:
    """How one speaks of the items.

    Attributes:
        one: a single item.
        many: several.
        did: what somebody did with one.
        doing: what somebody does with one.
    """

    one: str
    many: str
    did: str
    doing: str

    def words(self) -> dict[str, str]:
        """What every template may use without naming it: these four, and ``Many`` in capital."""
        return {
            "one": self.one,
            "many": self.many,
            "Many": self.many[:1].upper() + self.many[1:],
            "did": self.did,
            "doing": self.doing,
        }


DOMAINS = {
    "movies": Domain("movie", "movies", "watched", "watching"),
    "books": Domain("book", "books", "read", "reading"),
    "music": Domain("album", "albums", "listened to", "listening to"),
    "artists": Domain("artist", "artists", "listened to", "listening to"),
    "news": Domain("article", "articles", "read", "reading"),
    "games": Domain("game", "games", "played", "playing"),
    "restaurants": Domain("restaurant", "restaurants", "visited", "visiting"),
    "products": Domain("product", "products", "bought", "buying"),
}
_WORDS = frozenset(DOMAINS["products"].words())


def domain(word: str | Mapping[str, str] | Domain) -> Domain:
    """The words for a kind of item.

    Args:
        word: a name of :data:`DOMAINS`, or the four words of a :class:`Domain`.

    Raises:
        OnomaError: an unknown name, or words that are missing.
    """
    if isinstance(word, Domain):
        return word
    if isinstance(word, Mapping):
        try:
            return Domain(**word)
        except TypeError:
            what = f"{dict(word)!r} are not the words one, many, did and doing"
            raise OnomaError(what, where="domain") from None
    if word not in DOMAINS:
        raise OnomaError(
            f"no domain is called {word!r}",
            where="domain",
            fix=f"Known: {', '.join(DOMAINS)}; or give the words one, many, did and doing",
        )
    return DOMAINS[word]


class Template(BaseModel):
    """A prompt with places to fill.

    ``$name`` or ``${name}`` is a place, ``$$`` a dollar sign. All places are filled at once, so
    what is filled in is never read as a place itself.

    Attributes:
        name: of the file.
        version: raised when the text changes.
        about: one sentence: what it is for and whose wording it stands in for.
        system: how the model is to behave, if anything.
        user: what it is asked.
        placeholders: what is to be filled in, and with what; the words of a :class:`Domain` are
            not among them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: int = Field(ge=1)
    about: str = Field(min_length=1)
    system: str = ""
    user: str = Field(min_length=1)
    placeholders: dict[str, str] = {}

    @classmethod
    def load(cls, name: str | Path) -> Template:
        """A template of the library by name, or one's own by the path of a YAML file.

        Raises:
            OnomaError: no such template, or a file that is none.
        """
        text, where = _text(str(name))
        try:
            raw = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise OnomaError("not valid YAML", where=f"{where}{line}") from error
        if not isinstance(raw, dict):
            raise OnomaError("a template is a mapping", where=where)
        try:
            found = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise OnomaError(
                f"{key}: {first['msg']}",
                where=where,
                fix=f"A template has {', '.join(cls.model_fields)}",
            ) from error
        found._check(where)
        return found

    @property
    def id(self) -> str:
        """``name@version``, which is what a run records beside :attr:`hash`."""
        return f"{self.name}@{self.version}"

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over what the model reads."""
        record = json.dumps([self.name, self.version, self.system, self.user])
        return hashlib.sha256(record.encode("ascii")).hexdigest()[:12]

    def messages(
        self, domain: str | Mapping[str, str] | Domain = "products", **values: str | int | float
    ) -> list[dict[str, str]]:
        """The prompt as messages in OpenAI's form.

        Args:
            domain: how one speaks of the items.
            values: what is filled in, by name; lists are made texts first, by :func:`numbered`
                and its like.

        Raises:
            OnomaError: a value is missing, or has no place.
        """
        out = []
        if self.system:
            out.append({"role": "system", "content": self._filled(self.system, domain, values)})
        return [*out, {"role": "user", "content": self._filled(self.user, domain, values)}]

    def text(
        self, domain: str | Mapping[str, str] | Domain = "products", **values: str | int | float
    ) -> str:
        """The prompt as running text, for models that go on where it ends; as :meth:`messages`."""
        return "\n\n".join(part["content"] for part in self.messages(domain, **values))

    def _filled(
        self,
        text: str,
        kind: str | Mapping[str, str] | Domain,
        values: Mapping[str, str | int | float],
    ) -> str:
        for problem, names in (
            ("nothing is given for", self.placeholders.keys() - values.keys()),
            ("it has no place for", values.keys() - self.placeholders.keys()),
        ):
            if names:
                raise OnomaError(f"{problem} {sorted(names)[0]}", where=f"prompt {self.id}")
        for name, value in values.items():
            if not isinstance(value, str | int | float):
                what = f"{name} is a {type(value).__name__}, not a text"
                raise OnomaError(what, where=f"prompt {self.id}")
        words = domain(kind).words()
        return string.Template(text.rstrip("\n")).substitute({**words, **values})

    def _check(self, where: str) -> None:
        used: set[str] = set()
        for text in (self.system, self.user):
            plain = string.Template(text)
            if not plain.is_valid():
                what = "a dollar sign that begins no placeholder"
                raise OnomaError(what, where=where, fix="Write $$ for a dollar sign")
            used.update(plain.get_identifiers())
        if wrong := used - self.placeholders.keys() - _WORDS:
            what = f"${sorted(wrong)[0]} is not among its placeholders"
            raise OnomaError(
                what, where=where, fix=f"Words of every template: {', '.join(sorted(_WORDS))}"
            )
        if wrong := self.placeholders.keys() - used:
            raise OnomaError(f"${sorted(wrong)[0]} has no place in its texts", where=where)
        if wrong := self.placeholders.keys() & {*_WORDS, "domain", "self"}:
            raise OnomaError(f"${sorted(wrong)[0]} has a meaning already", where=where)


def library() -> list[str]:
    """Names of the templates that come with Onoma."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("onoma.language").joinpath("prompts").iterdir()
        if entry.name.endswith(".yaml")
    )


def line(text: str, longest: int = LONGEST) -> str:
    """A text on one line: no control or formatting characters, single spaces, cut when long.

    A title is data of strangers; this keeps it from looking like a line of the prompt.
    """
    # Joiners stay: emoji and some scripts are spelled with them.
    kept = (
        " " if (kind := unicodedata.category(c)) in ("Cc", "Zl", "Zp", "Zs") else
        "" if kind in ("Cf", "Cs") and c not in "\u200c\u200d" else c
        for c in text
    )  # fmt: skip
    plain = " ".join("".join(kept).split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1].rstrip()}…"


def numbered(titles: Iterable[str], start: int = 1, longest: int = LONGEST) -> str:
    """``1. Heat``, one a line."""
    return "\n".join(
        f"{place}. {line(title, longest)}" for place, title in enumerate(titles, start)
    )


def lettered(titles: Iterable[str], longest: int = LONGEST) -> str:
    """``A. Heat``, one a line.

    Raises:
        ValueError: more titles than letters.
    """
    titles = list(titles)
    if len(titles) > len(string.ascii_uppercase):
        raise ValueError(f"{len(titles)} titles for {len(string.ascii_uppercase)} letters")
    return "\n".join(
        f"{letter}. {line(title, longest)}"
        for letter, title in zip(string.ascii_uppercase, titles, strict=False)
    )


def bulleted(titles: Iterable[str], longest: int = LONGEST) -> str:
    """``- Heat``, one a line."""
    return "\n".join(f"- {line(title, longest)}" for title in titles)


def joined(titles: Iterable[str], by: str = ", ", longest: int = LONGEST) -> str:
    """``Heat, Ronin``."""
    return by.join(line(title, longest) for title in titles)


def _text(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in library():
            raise OnomaError(
                f"no prompt is called {name!r}",
                fix=f"Use a path ending in .yaml or one of {', '.join(library())}",
            )
        return files("onoma.language").joinpath(f"prompts/{name}.yaml").read_text("utf-8"), name
    try:
        if path.stat().st_size > _LARGEST:
            raise OnomaError("too large for a template", where=name)
        return path.read_text("utf-8"), name
    except UnicodeDecodeError as error:
        raise OnomaError(f"not UTF-8 text (byte {error.start})", where=name) from error
    except OSError as error:
        raise OnomaError(f"cannot be read ({error.strerror})", where=name) from error
