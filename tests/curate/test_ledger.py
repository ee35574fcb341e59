from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.ledger import FILTERS, Account, Ledger

SOURCES = ["hc3", "alpaca"]
EVENT = st.tuples(
    st.sampled_from(["keep", "keep many", "reject", "reject kept", "repair"]),
    st.sampled_from(SOURCES),
    st.sampled_from(FILTERS),
    st.sampled_from(["empty answer", "not valid JSON"]),
)


@settings(deadline=None)
@given(st.lists(EVENT))
def test_rows_in_are_rows_kept_and_rows_rejected(events: list[tuple[str, str, str, str]]) -> None:
    ledger = Ledger.of(SOURCES)
    came_in, kept, rejected = Counter[str](), Counter[str](), Counter[tuple[str, str, str]]()
    for event, source, by, reason in events:
        if event == "keep":
            ledger.keep(source)
            came_in[source] += 1
            kept[source] += 1
        elif event == "keep many":
            ledger.keep(source, 7)
            came_in[source] += 7
            kept[source] += 7
        elif event == "reject":
            ledger.reject(source, by, reason)
            came_in[source] += 1
            rejected[source, by, reason] += 1
        elif event == "reject kept" and kept[source]:
            ledger.reject_kept(source, by, reason)
            kept[source] -= 1
            rejected[source, by, reason] += 1
        elif event == "repair":
            ledger.sources[source].repaired[reason] += 1
    shown = ledger.as_json()
    assert list(shown["sources"]) == SOURCES
    for source in SOURCES:
        account = shown["sources"][source]
        assert account["rows_in"] == came_in[source] == account["rows_kept"] + sum(account["rejected"].values())
        assert account["rows_kept"] == kept[source]
        left = account["rows_in"]
        for entry, name in zip(account["filters"], FILTERS, strict=True):
            assert (entry["filter"], entry["rows_in"]) == (name, left)
            assert entry["rejected"] == {why: n for (of, by, why), n in rejected.items() if (of, by) == (source, name)}
            left -= sum(entry["rejected"].values())
            assert entry["rows_kept"] == left
        assert left == account["rows_kept"]
    assert shown["rows_in"] == came_in.total()
    assert shown["rows_kept"] == kept.total()
    assert shown["rows_rejected"] == rejected.total()
    assert Ledger.from_json(json.loads(json.dumps(shown))) == ledger


def test_a_later_stage_moves_a_row_from_kept_to_rejected() -> None:
    ledger = Ledger({"hc3": Account(rows_kept=3, rejected={"layout": Counter({"empty answer": 1})})})
    ledger.reject_kept("hc3", "length", "longer than the context")
    shown = ledger.as_json()
    assert (shown["rows_in"], shown["rows_kept"], shown["rows_rejected"]) == (4, 2, 2)
    assert shown["sources"]["hc3"]["rejected"] == {"empty answer": 1, "longer than the context": 1}


def test_the_published_counts_stand_beside() -> None:
    entry = Ledger.of(["hc3"]).as_json()["sources"]["hc3"]
    assert entry["published_rows"] == 87_000
    assert entry["published_kept"] is None
    assert "87K" in entry["published"]


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="no filter 'length '"):
        Ledger.of(["hc3"]).reject("hc3", "length ", "too long")


def test_what_is_read_back_is_a_ledger_of_its_own() -> None:
    values = Ledger.of(["hc3"]).as_json()
    ledger = Ledger.from_json(values)
    ledger.reject("hc3", "read", "x")
    assert values["sources"]["hc3"]["rejected"] == {}
    assert Ledger.from_json(values).sources["hc3"].rows_in == 0


def test_an_unknown_source_is_no_source() -> None:
    with pytest.raises(KeyError):
        Ledger.of(["hc3"]).keep("hc4")


def test_reasons_are_in_order() -> None:
    account = Account(rejected={"read": Counter({"b": 1, "a": 2})})
    assert list(account.as_json()["rejected"]) == ["a", "b"]


def test_sources_keep_their_order_through_a_manifest_with_sorted_keys() -> None:
    shown = Ledger.of(["sharegpt", "hc3", "alpaca"]).as_json()
    again = Ledger.from_json(json.loads(json.dumps(shown, sort_keys=True))).as_json()
    assert json.dumps(again) == json.dumps(shown)
    assert list(again["sources"]) == ["sharegpt", "hc3", "alpaca"]
