from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.language import English
from koala_ray.records import Turn

ENGLISH = English()
REQUESTS = (
    "Translate the following sentence into English.\n\n{}",
    "Translate to English: {}",
    'How do you say "{}" in English?',
    "{}\nTranslate this to English.",
    "Summarize this text for me\n{}\n{}\n{}",
)


def reason(*questions: str, answer: str = "Yes.") -> str | None:
    turns = [turn for question in questions for turn in (Turn("user", question), Turn("assistant", answer))]
    return ENGLISH.reason(tuple(turns))


def queries(real_data: Path, code: str) -> list[str]:
    lines = (real_data / "languages" / f"{code}100.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["query"] for line in lines]


def test_english_queries_are_kept(real_data) -> None:
    assert sum(reason(query) is None for query in queries(real_data, "en")) == 100


@pytest.mark.parametrize("code", ["de", "es", "zh", "ja"])
def test_other_languages_are_dropped_and_named(real_data, code: str) -> None:
    reasons = [reason(query) for query in queries(real_data, code)]
    assert reasons.count(None) <= 2
    assert reasons.count(f"not English: {code}") >= 90


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("code", ["de", "es", "zh", "ja"])
def test_an_english_request_about_another_language_is_english(real_data, code: str, request_: str) -> None:
    found = [reason(request_.replace("{}", query)) for query in queries(real_data, code)]
    assert found.count(None) >= 98


def test_every_evaluation_prompt_is_kept(real_data) -> None:
    for name, field in (("koala_test_set", "prompt"), ("self_instruct_252", "instruction"), ("vicuna_80", "text")):
        prompts = [json.loads(line)[field] for line in (real_data / "prompts" / f"{name}.jsonl").open()]
        assert [prompt for prompt in prompts if reason(prompt)] == []


def test_real_questions_are_kept(real_data) -> None:
    hc3 = [json.loads(line)["question"] for line in (real_data / "sources/hc3_open_qa.jsonl").open()]
    alpaca = [
        " ".join((row["instruction"], row["input"]))
        for row in json.loads((real_data / "sources/alpaca_cleaned_1000.json").read_text())
    ]
    assert [question for question in hc3 + alpaca if reason(question)] == []


@pytest.mark.parametrize("text", ["", "ok", "Hi!", "2+2", "Albert Einstein", "José Martínez", "…", "👍", "x = [1, 2]"])
def test_texts_too_short_to_tell_are_kept(text: str) -> None:
    assert reason(text) is None


@pytest.mark.parametrize(
    ("text", "code"), [("你好", "zh"), ("Привет", "ru"), ("こんにちは", "ja"), ("안녕하세요", "ko")]
)
def test_another_script_tells_even_short_texts(text: str, code: str) -> None:
    assert reason(text) == f"not English: {code}"


def test_only_the_user_is_judged() -> None:
    german = "Die Hauptstadt von Frankreich ist Paris, und das weiß eigentlich jeder Mensch."
    assert reason("Please write a sentence in German about Paris.", answer=german) is None
    assert reason(german, answer="Paris is the capital of France, as everybody knows.") == "not English: de"


def test_all_turns_count() -> None:
    spanish = "¿Puedes explicarme cómo funciona la fotosíntesis en las plantas verdes?"
    assert reason("Hola", spanish, spanish) == "not English: es"


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_verdict_and_always_the_same(text: str) -> None:
    first = reason(text)
    assert first is None or first.startswith("not English: ")
    assert reason(text) == first


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=20).filter(lambda text: len(text.split()) < 3))
def test_two_words_in_latin_letters_are_always_kept(text: str) -> None:
    assert reason(text) is None


def test_the_model_needs_no_network_and_says_nothing(tmp_path) -> None:
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from koala_ray.curate.language import English\n"
        "from koala_ray.records import Turn\n"
        "assert English().reason((Turn('user', 'Was ist die Hauptstadt von Frankreich?'),)) == 'not English: de'\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
