"""Ledgers made by hand, for the tests of what shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from koala_ray.curate.ledger import FILTERS

BORDERS = [0, 32, 64, 128, 256, 512]
EVIL = "<script>alert('x')</script><img src=x onerror=\"y\"> & </table></svg></html> $x_1$ [red]"


def source(
    rows_in: int,
    rejected: Mapping[str, Mapping[str, int]] = {},
    *,
    repaired: Mapping[str, int] = {},
    published: str = "about 24K questions",
    published_rows: int | None = None,
    published_kept: int | None = None,
) -> dict[str, Any]:
    """A source's entry in a curate step's ledger."""
    filters, left, reasons = [], rows_in, Counter[str]()
    for name in FILTERS:
        lost = dict(rejected.get(name, {}))
        rows = {"rows_in": left, "rows_kept": left - sum(lost.values())}
        filters.append({"filter": name, **rows, "rejected": lost})
        left = rows["rows_kept"]
        reasons.update(lost)
    return {
        "rows_in": rows_in,
        "rows_kept": left,
        "rejected": dict(reasons),
        "filters": filters,
        "repaired": dict(repaired),
        "published": published,
        "published_rows": published_rows,
        "published_kept": published_kept,
    }


def ledger(sources: Mapping[str, dict[str, Any]], prompts: Mapping[str, dict[str, int]] = {}) -> dict[str, Any]:
    """A curate step's ledger."""
    kept, rows = (sum(entry[key] for entry in sources.values()) for key in ("rows_kept", "rows_in"))
    return {
        "rows_in": rows,
        "rows_kept": kept,
        "rows_rejected": rows - kept,
        "sources": dict(sources),
        "prompts": dict(prompts),
    }


def with_tokens(curated: Mapping[str, Any], lengths: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """The tokens step's ledger of a curate step's, given each source's dialogues by length."""
    sources = {}
    for name, entry in curated["sources"].items():
        counts = list(lengths[name])
        tokens = sum(count * (border + 1) for count, border in zip(counts, BORDERS, strict=True))
        sources[name] = {
            **entry,
            "dialogues": sum(counts),
            "cut": min(3, sum(counts)),
            "split": min(40, sum(counts)),
            "tokens": tokens,
            "learnt_tokens": tokens * 3 // 4,
            "lengths": {"borders": BORDERS, "dialogues": counts},
        }
    return {
        **curated,
        "sources": sources,
        **{key: sum(entry[key] for entry in sources.values()) for key in ("tokens", "learnt_tokens")},
        "packs": 1753,
        "fill": 0.99517,
        "context": 512,
        "epochs": 2,
        "base": "smollm2-135m",
        "heldout": {"dialogues": 151, "tokens": 20123, "learnt_tokens": 15321, "packs": 47},
    }


def koala() -> dict[str, Any]:
    """Two real sources' names, one of them with rejected rows of many kinds, and one that gave nothing."""
    hc3 = {
        "layout": {"empty answer": 315},
        "language": {"not English: de": 7, "not English: zh": 1207},
        "length": {"longer than the context": 2},
    }
    curated = ledger(
        {
            "alpaca": source(0, published="about 52K", published_rows=52_000),
            "hc3": source(85_449, hc3, repaired={"Copy code removed": 12, "HTML": 90}, published_rows=87_000),
            "sharegpt": source(
                59_873,
                {"duplicates": {"same question": 28_743}},
                published_rows=60_000,
                published_kept=30_000,
            ),
        },
        {"koala": {"prompts": 180, "contaminated": 42}, "vicuna": {"prompts": 80, "contaminated": 0}},
    )
    return with_tokens(
        curated,
        {"alpaca": [0] * 6, "hc3": [1100, 9100, 31_000, 30_400, 12_000, 318], "sharegpt": [0, 0, 0, 1, 0, 31_129]},
    )


names = st.sampled_from(["hc3", "hh", "webgpt", "another", EVIL, "Ω–Ж", "\x1b[31m", "$\\frac$"])
reasons = st.sampled_from(["empty answer", "tie", "x" * 200, "many words " * 30, EVIL, "a\nb"])
losses = st.dictionaries(st.sampled_from(FILTERS), st.dictionaries(reasons, st.integers(0, 10**6), max_size=3))


@st.composite
def ledgers(draw: st.DrawFn) -> dict[str, Any]:
    """Ledgers that balance, with and without tokens, of sources with and without rows."""
    sources = {}
    for name in draw(st.lists(names, unique=True, max_size=3)):
        lost = draw(losses)
        rows = sum(sum(counts.values()) for counts in lost.values()) + draw(st.integers(0, 10**12))
        published = st.none() | st.integers(0, 10**6)
        sources[name] = source(
            rows,
            lost,
            repaired=draw(st.dictionaries(reasons, st.integers(0, 9), max_size=2)),
            published=draw(reasons),
            published_rows=draw(published),
            published_kept=draw(published),
        )
    made = ledger(sources, draw(st.just({}) | st.just({EVIL: {"prompts": 0, "contaminated": 0}})))
    if draw(st.booleans()):
        counts = st.lists(st.integers(0, 10**9), min_size=len(BORDERS), max_size=len(BORDERS))
        made = with_tokens(made, {name: draw(counts) for name in sources})
    return made
