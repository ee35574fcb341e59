from __future__ import annotations

from koala_ray.curate.duplicates import KEY_BYTES, Duplicates, row_key
from koala_ray.records import Turn


def dialogue(asked: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", asked), Turn("assistant", answer, "positive", learn=True)


def test_rows_that_ask_the_same_share_a_key_whatever_the_answer_and_the_white_space() -> None:
    one = row_key([dialogue("What is\n\na koala?", "A marsupial.")], with_answers=False)
    assert len(one) == KEY_BYTES
    assert one == row_key([dialogue(" What  is a koala?", "An animal.")], with_answers=False)
    assert one != row_key([dialogue("What is a Koala?", "A marsupial.")], with_answers=False)


def test_all_of_the_users_turns_count_and_where_they_end() -> None:
    longer = dialogue("Hi", "Hello.") + dialogue("Why?", "So.")
    assert row_key([longer], with_answers=False) != row_key([dialogue("Hi", "Hello.")], with_answers=False)
    assert row_key([longer], with_answers=False) != row_key([dialogue("Hi Why?", "Hello.")], with_answers=False)


def test_comparisons_are_judged_with_both_answers() -> None:
    pair = [dialogue("Q", "good"), dialogue("Q", "bad")]
    other = [dialogue("Q", "good"), dialogue("Q", "worse")]
    assert row_key(pair, with_answers=True) == row_key(list(pair), with_answers=True)
    assert row_key(pair, with_answers=True) != row_key(other, with_answers=True)
    assert row_key(pair, with_answers=False) == row_key(other, with_answers=False)


def test_the_first_row_stays_and_its_own_dialogues_are_no_duplicates_of_each_other() -> None:
    duplicates = Duplicates()
    assert not duplicates.seen(b"key", "hc3/a#1")
    assert not duplicates.seen(b"key", "hc3/a#1")
    assert duplicates.seen(b"key", "alpaca/a#9")
    assert duplicates.seen(b"key", "alpaca/a#9")
    assert not duplicates.seen(b"other", "alpaca/a#9")
