"""What comes in and goes out, with a limit on every text, list and number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

MOST_K = 1000
MOST_IDS = 2000
MOST_ROWS = 1000
LATEST = 4_102_444_800  # 2100-01-01


def _whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="The owner's id; no control characters."),
]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
# JSON knows one kind of number: 5.0 is a whole one.
Whole = Annotated[int, BeforeValidator(lambda v: int(v) if _whole(v) else v)]
Count = Annotated[Whole, Field(ge=1, le=MOST_K, description="How many items.")]
Scalar = Text | Annotated[Whole, Field(ge=-(10**15), le=10**15)] | Number | bool
_closed: dict[str, JsonValue] = {"additionalProperties": False}  # keys have a pattern
Attributes = Annotated[
    dict[Word, Scalar | Annotated[list[Text], Field(max_length=100)]],
    Field(max_length=64, json_schema_extra=_closed),
]
Context = Annotated[dict[Word, Scalar], Field(max_length=32, json_schema_extra=_closed)]
Filter = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    Field(
        description="An expression over the catalogue's columns, such as "
        "`year >= 1990 and categories = 'Comedy'`.",
        json_schema_extra={"format": "onoma-filter"},
    ),
]


EXPLAIN = Field(default=False, description="Whether to say why, for the first 20 items.")


class In(BaseModel):
    """What is accepted: no unknown fields, no conversions, no NaN and no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Who(In):
    """Whose taste is meant: a user, a bare history, or a user and what was just done."""

    user_id: Id | None = Field(default=None, description="A user of the data or of the events.")
    history: list[Id] = Field(
        default=[],
        max_length=MOST_IDS,
        description="Item ids, oldest first; unknown ones are skipped.",
    )


class RecommendIn(Who):
    """A request for recommendations."""

    k: Count = 10
    exclude: list[Id] = Field(default=[], max_length=MOST_IDS, description="Items not wanted.")
    candidates: list[Id] | None = Field(
        default=None, min_length=1, max_length=MOST_IDS, description="Rank these only."
    )
    filter: Filter | None = None
    diversity: float = Field(default=0.0, ge=0, le=1, description="0 keeps the order of scores.")
    mode: Word | None = Field(default=None, description="One of the model's modes.")
    repeats: bool = Field(default=False, description="Whether items of the history may come again.")
    context: Context = Field(default={}, description="What else is known, for models that read it.")
    scenario: Word | None = Field(default=None, description="The place on the page, for the model.")
    explain: bool = EXPLAIN


class RankIn(Who):
    """Items to put in order."""

    items: list[Id] = Field(min_length=1, max_length=MOST_IDS)
    context: Context = {}
    scenario: Word | None = None
    explain: bool = EXPLAIN


class SimilarIn(In):
    """A request for items like one."""

    item_id: Id
    k: Count = 10
    by: Literal["model", "content"] = Field(
        default="model", description="Alike to the model, or alike in what the catalogue says."
    )
    filter: Filter | None = None


class SearchIn(Who):
    """A search by words."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
    k: Count = 10
    filter: Filter | None = None


class EventIn(In):
    """Something a user did."""

    event_id: Id | None = Field(default=None, description="Yours; the same id twice is one event.")
    user_id: Id
    item_id: Id
    type: Literal[
        "view", "click", "cart", "purchase", "play", "rating", "like", "dislike", "hide",
        "impression",
    ] = "view"  # fmt: skip
    timestamp: Whole | None = Field(default=None, ge=0, le=LATEST, description="Unix seconds; now.")
    value: Number | None = Field(default=None, description="A rating or an amount.")
    request_id: Word | None = Field(default=None, description="Of the answer it followed.")


class EventsIn(In):
    """A batch of events."""

    events: list[EventIn] = Field(min_length=1, max_length=MOST_ROWS)


class ItemIn(In):
    """An item of the catalogue."""

    item_id: Id
    title: Text | None = None
    attributes: Attributes = Field(
        default={}, description="Columns: categories, brand, price, description and any other."
    )


class ItemsIn(In):
    """Items to add or change."""

    items: list[ItemIn] = Field(min_length=1, max_length=MOST_ROWS)


class UserIn(In):
    """A user."""

    user_id: Id
    attributes: Attributes = {}


class UsersIn(In):
    """Users to add or change."""

    users: list[UserIn] = Field(min_length=1, max_length=MOST_ROWS)


class SwapIn(In):
    """A model to put in place."""

    run: Annotated[
        str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")
    ] = Field(description="The name of a run directory beside the one that was started.")


class ItemRef(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str | None


class Contribution(ItemRef):
    """An item of the history and what it brings to a score; negative: it speaks against."""

    contribution: float


class ReasonOut(BaseModel):
    """One thing that speaks for an item."""

    kind: Literal["history", "attribute", "name"]
    text: str = Field(description="In words; titles in it are data.")
    items: list[ItemRef] = Field(description="Of the history, the strongest first.")
    share: float | None = Field(description="`history`: their part of all that speaks for it.")
    column: str | None = Field(description="`attribute`: where both say the same.")
    value: str | None = Field(description="`attribute`: what both say.")
    levels: int | None = Field(description="`name`: codes that begin both names.")
    depth: int | None = Field(description="`name`: codes of the whole name.")


class Scored(BaseModel):
    """An answered item."""

    item_id: str
    title: str | None
    score: float
    name: list[int] | None = Field(
        description="The codes of its name, where the model names items."
    )
    contributions: list[Contribution] | None = Field(
        default=None, description="With `explain`: of the history's last 100, the largest first."
    )
    reasons: list[ReasonOut] | None = Field(
        default=None, description="With `explain`: in words, the strongest first."
    )


class RecommendOut(BaseModel):
    """Recommendations, best first."""

    request_id: str = Field(description="To be quoted by the events that follow.")
    model: str
    mode: str
    fallback: str | None = Field(
        description="`popular`: nothing is known of the user. `neighbours`: the model takes no new "
        "items, which score as the items they are like."
    )
    items: list[Scored]
    explained_by: str | None = Field(
        default=None,
        description="`exact`: the parts of a sum. `leave-one-out`: what is lost without each item.",
    )


class SimilarOut(BaseModel):
    """Items like one, most alike first."""

    request_id: str
    model: str
    by: str
    items: list[Scored]


class SearchOut(BaseModel):
    """Found items, best first."""

    request_id: str
    model: str
    personalised: bool
    items: list[Scored]


class RankOut(RecommendOut):
    """All known items of the request, best first."""

    unknown: list[str] = Field(description="Ids that are no items, or withdrawn.")


class EventOut(BaseModel):
    """What became of one event."""

    event_id: str
    status: Literal["accepted", "duplicate", "rejected"]
    error: str | None = None


class EventsOut(BaseModel):
    """What became of a batch; what is accepted is on the disk."""

    accepted: int
    duplicates: int
    rejected: int
    results: list[EventOut]


class ItemOut(BaseModel):
    """An item."""

    item_id: str
    title: str | None
    attributes: dict[str, Any]
    name: list[int] | None
    withdrawn: bool
    new: bool = Field(description="Whether it came after training.")


class ItemsOut(BaseModel):
    """Items."""

    items: list[ItemOut]
    total: int = Field(description="Items of the catalogue, withdrawn ones included.")


class UserOut(BaseModel):
    """What is known of a user."""

    user_id: str
    attributes: dict[str, Any]
    history: list[str] = Field(description="The last 100 item ids, oldest first.")
    interactions: int


class UsersOut(BaseModel):
    """Users."""

    users: list[UserOut]


class ChangedOut(BaseModel):
    """How much changed."""

    changed: int


class NameOut(BaseModel):
    """The name of an item."""

    item_id: str
    title: str | None
    name: list[int]
    text: str = Field(description="The codes joined by dashes.")
    neighbours: list[Scored] = Field(description="Items whose names begin the same, longest first.")


class ModelOut(BaseModel):
    """A loaded model."""

    name: str
    recommender: str
    modes: list[str]
    reads: list[str]
    items: int
    new_items: int
    withdrawn: int
    new_items_by: str


class ModelCard(BaseModel):
    """A model, as OpenAI's clients know one."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsOut(BaseModel):
    """The model that answers, the one before it, and those that could."""

    object: Literal["list"]
    data: list[ModelCard] = Field(description="As OpenAI's clients read it: the present model.")
    current: ModelOut
    previous: str | None
    available: list[str]


class HealthOut(BaseModel):
    """The state of the service."""

    status: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, Any]] | None = None
