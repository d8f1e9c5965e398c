"""What schemathesis must know to write valid filters: SCHEMATHESIS_HOOKS=tests/serving/fuzz.py.

    onoma serve RUN --port 8123 --quiet &
    SCHEMATHESIS_HOOKS=tests/serving/fuzz.py st --config-file tests/serving/schemathesis.toml \
        run http://127.0.0.1:8123/openapi.json --checks all --phases fuzzing -n 400
"""

import schemathesis
from hypothesis import strategies as st

_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="'\\\x00"), max_size=10)
_VALUES = _TEXTS.map(lambda text: f"'{text}'") | st.just("null")
_LEAVES = st.tuples(
    st.sampled_from(["title", "item_id"]), st.sampled_from(["=", "!="]), _VALUES
).map(" ".join)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})")
        | inner.map(lambda text: f"not ({text})")
    ),
    max_leaves=5,
)

schemathesis.openapi.format("onoma-filter", _TREES)
