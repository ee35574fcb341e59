from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.ledger import Account, Ledger

SOURCES = ["hc3", "alpaca"]
EVENT = st.tuples(
    st.sampled_from(["keep", "keep many", "reject", "reject kept", "cut"]),
    st.sampled_from(SOURCES),
    st.sampled_from(["empty answer", "not valid JSON"]),
)


@settings(deadline=None)
@given(st.lists(EVENT))
def test_rows_in_are_rows_kept_and_rows_rejected(events: list[tuple[str, str, str]]) -> None:
    ledger = Ledger.of(SOURCES)
    came_in, kept, rejected = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for event, source, reason in events:
        if event == "keep":
            ledger.keep(source)
            came_in[source] += 1
            kept[source] += 1
        elif event == "keep many":
            ledger.keep(source, 7)
            came_in[source] += 7
            kept[source] += 7
        elif event == "reject":
            ledger.reject(source, reason)
            came_in[source] += 1
            rejected[source, reason] += 1
        elif event == "reject kept" and kept[source]:
            ledger.reject_kept(source, reason)
            kept[source] -= 1
            rejected[source, reason] += 1
        elif event == "cut":
            ledger.sources[source].cut += 1
    shown = ledger.as_json()
    assert list(shown["sources"]) == SOURCES
    for source in SOURCES:
        account = shown["sources"][source]
        assert account["rows_in"] == came_in[source] == account["rows_kept"] + sum(account["rejected"].values())
        assert account["rows_kept"] == kept[source]
        assert account["rejected"] == {reason: n for (name, reason), n in rejected.items() if name == source}
    assert shown["rows_in"] == came_in.total()
    assert shown["rows_kept"] == kept.total()
    assert shown["rows_rejected"] == rejected.total()
    assert Ledger.from_json(json.loads(json.dumps(shown))) == ledger


def test_a_later_stage_moves_a_row_from_kept_to_rejected() -> None:
    ledger = Ledger({"hc3": Account(rows_kept=3, rejected=Counter({"empty answer": 1}))})
    ledger.reject_kept("hc3", "longer than the context")
    assert ledger.as_json() == {
        "rows_in": 4,
        "rows_kept": 2,
        "rows_rejected": 2,
        "sources": {
            "hc3": {
                "rows_in": 4,
                "rows_kept": 2,
                "rejected": {"empty answer": 1, "longer than the context": 1},
                "cut": 0,
            }
        },
    }


def test_what_is_read_back_is_a_ledger_of_its_own() -> None:
    values = Ledger.of(["hc3"]).as_json()
    ledger = Ledger.from_json(values)
    ledger.reject("hc3", "x")
    assert values["sources"]["hc3"]["rejected"] == {}
    assert Ledger.from_json(values).sources["hc3"].rows_in == 0


def test_an_unknown_source_is_no_source() -> None:
    with pytest.raises(KeyError):
        Ledger.of(["hc3"]).keep("hc4")


def test_reasons_are_in_order() -> None:
    account = Account(rejected=Counter({"b": 1, "a": 2}))
    assert list(account.as_json()["rejected"]) == ["a", "b"]
