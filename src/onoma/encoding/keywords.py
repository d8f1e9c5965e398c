"""What texts are about: words and short phrases between the words that say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

LONGEST = 3  # words of a phrase
_SHORTEST = 3  # letters of a word
# Letters are words; anything but blanks and what stands inside words ends a phrase.
_TOKEN = r"[\p{L}\p{M}]+|[^\p{L}\p{M} \t'’-]+"  # noqa: S105
# English words that stand in any text: they end a phrase and are no part of it.
_STOP = frozenset(
    """
    a about above actually after again against all almost alone along already also although always
    am among an and another any anybody anyone anything anyway are around as ask at away back be
    became because become been before behind being below besides best better between both but buy
    buying by came can cannot come comes could day did didn didnt different do does doesn doesnt
    doing don done dont down due during each either else enough especially etc even ever every
    everybody everyone everything everywhere exactly far few find first for former found from full
    further gave get gets getting give given gives giving go goes going gone good got great had has
    hasn have haven having he her here hers herself him himself his hope how however i if in indeed
    instead into is isn it its itself just keep kind knew know known last later least less let like
    liked likes little ll long look looked looking looks lot lots love loved loves made make makes
    making many may maybe me mean might mine more most mostly much must my myself near need needed
    needs neither never new next nice no nobody none nor not nothing now of off often oh ok okay on
    once one ones only onto or other others otherwise our ours ourselves out over overall own per
    perfect perhaps please pretty probably put quite rather re really right said same saw say says
    see seem seemed seems seen several shall she should show simply since so some somebody someone
    something sometimes somewhere soon still such sure take taken takes tell than thank thanks that
    the their theirs them themselves then there therefore these they thing things think this those
    though thought through thus time times to together told too took toward towards tried try trying
    two under unless until up upon us use used uses using usually ve very want wanted wants was wasn
    way we well went were what whatever when where whether which while who whole whom whose why will
    with within without won wont would year years yes yet you your yours yourself
    """.split()
)


def phrases(texts: Sequence[str]) -> pl.DataFrame:
    """Columns ``row``, ``phrase`` and ``words``: every candidate of every text, in no set order.

    Candidates are the runs between stop words and punctuation and all shorter runs inside them, as
    in RAKE (Rose, Engel, Cramer and Cowley, "Automatic keyword extraction from individual
    documents", 2010), in lower case and singular (Harman, JASIS 1991). This needs no tagger: noun
    phrases are what a chunker would keep of them, and what else is common to all texts has no
    weight where weights are by rarity.

    Args:
        texts: n texts; ``row`` counts them.
    """
    frame = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).with_row_index("row")
    token = pl.col("text").str.to_lowercase().str.extract_all(_TOKEN).alias("word")
    words = frame.select("row", token).explode("word").drop_nulls("word")
    word = pl.col("word")
    stop = ~word.str.contains(r"^\p{L}") | (word.str.len_chars() < _SHORTEST)
    words = words.with_columns((stop | word.is_in(list(_STOP))).alias("stop"))
    # The first word of a text begins a run and belongs to it; a stop word ends one and does not.
    ends = pl.col("stop") | (pl.col("row") != pl.col("row").shift(1))
    words = words.with_columns(ends.fill_null(value=True).cum_sum().alias("run"))
    words = words.filter(~pl.col("stop")).with_columns(_singular(word).alias("word"))
    found = [words.select("row", pl.col("word").alias("phrase"), pl.lit(1).alias("words"))]
    for length in range(2, LONGEST + 1):
        following = [pl.col("word").shift(-step) for step in range(length)]
        whole = pl.when(pl.col("run") == pl.col("run").shift(1 - length)).then(
            pl.concat_str(following, separator=" ")
        )
        found.append(
            words.select("row", whole.alias("phrase"), pl.lit(length).alias("words")).drop_nulls()
        )
    return pl.concat(found)


def _singular(word: pl.Expr) -> pl.Expr:
    """Harman's S stemmer, and boxes as box: the first rule that fits, from four letters on."""
    return (
        pl.when(word.str.len_chars() <= _SHORTEST)
        .then(word)
        .when(word.str.contains(r"(?:x|ch|sh|ss)es$"))
        .then(word.str.replace(r"es$", ""))
        .when(word.str.contains(r"[^ea]ies$"))
        .then(word.str.replace(r"ies$", "y"))
        .when(word.str.contains(r"[^aeo]es$"))
        .then(word.str.replace(r"s$", ""))
        .when(word.str.contains(r"[^us]s$"))
        .then(word.str.replace(r"s$", ""))
        .otherwise(word)
    )
