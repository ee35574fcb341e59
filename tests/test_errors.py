"""The error that a user can mend, alone and several at once: on the terminal, as JSON, across a process border."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.errors import KoalaError, KoalaErrors, refuse

LONG = KoalaError("the context is too long", where="tokens.context", mend="--set tokens.context=1024")
SHARDED = KoalaError("offloading needs ZeRO", where="train.zero_stage", mend="--set train.zero_stage=1")
BARE = KoalaError("something else")

problems = st.builds(
    lambda error, where, mend: KoalaError(error, where=where, mend=mend), st.text(), st.text(), st.text()
)


def test_one_error_says_what_where_and_how_to_mend_it():
    assert str(LONG) == "the context is too long (tokens.context)\n  mend: --set tokens.context=1024"
    assert str(BARE) == "something else"
    assert LONG.as_json() == {
        "error": "the context is too long",
        "where": "tokens.context",
        "mend": "--set tokens.context=1024",
    }


def test_several_are_numbered_each_with_its_mend():
    assert str(KoalaErrors([LONG, SHARDED, BARE])) == (
        "3 problems\n"
        "  1. the context is too long (tokens.context)\n"
        "     mend: --set tokens.context=1024\n"
        "  2. offloading needs ZeRO (train.zero_stage)\n"
        "     mend: --set train.zero_stage=1\n"
        "  3. something else"
    )


def test_several_as_json_have_the_keys_of_one_and_list_all():
    found = KoalaErrors([LONG, SHARDED]).as_json()
    assert found["error"] == "2 problems: the context is too long; offloading needs ZeRO"
    assert found["where"] == "tokens.context; train.zero_stage"
    assert found["mend"] == "--set tokens.context=1024; --set train.zero_stage=1"
    assert found["problems"] == [LONG.as_json(), SHARDED.as_json()]


@given(st.lists(problems, min_size=1, max_size=4))
def test_errors_cross_a_process_border(found):
    for error in (found[0], KoalaErrors(found)):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.as_json()) == (str(error), error.as_json())


def test_refuse_raises_what_was_found():
    refuse([])
    with pytest.raises(KoalaError) as one:
        refuse([LONG])
    assert one.value is LONG
    with pytest.raises(KoalaErrors) as several:
        refuse([LONG, SHARDED])
    assert several.value.problems == (LONG, SHARDED)
