from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import new_bucket

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.prompts import Prompt, PromptSet, load_prompts


def in_file(folder: Path, *lines: str | dict[str, object], name: str = "mine.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return str(path)


def refused(name: str) -> KoalaError:
    with pytest.raises(KoalaError) as caught:
        load_prompts(name)
    assert caught.value.where
    assert caught.value.mend
    return caught.value


def test_a_set_is_named_after_its_file_and_keeps_its_order(tmp_path: Path) -> None:
    name = in_file(tmp_path, {"id": "b", "prompt": " Hi! "}, "", {"id": 7, "prompt": "Why?"})
    assert load_prompts(name) == PromptSet("mine", (Prompt("b", "Hi!"), Prompt("7", "Why?")))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a"}, Prompt("1", "a")),
        ({"text": "a", "question_id": 81}, Prompt("81", "a")),
        ({"instruction": "a"}, Prompt("1", "a")),
        ({"instruction": "a", "instances": [{"input": "b", "output": "c"}]}, Prompt("1", "a b")),
        ({"instruction": "a", "instances": [{"input": "", "output": "c"}]}, Prompt("1", "a")),
        ({"instruction": "a", "instances": []}, Prompt("1", "a")),
        ({"instruction": "a", "instances": "b"}, Prompt("1", "a")),
        ({"prompt": "a", "text": "b", "instruction": "c", "id": "x", "question_id": "y"}, Prompt("x", "a")),
        ({"prompt": 5, "text": "b"}, Prompt("1", "b")),
        ({"prompt": "a", "id": None}, Prompt("1", "a")),
        ({"prompt": "a", "id": 0}, Prompt("0", "a")),
    ],
)
def test_a_row_in_any_of_the_layouts(tmp_path: Path, row: dict[str, object], expected: Prompt) -> None:
    assert load_prompts(in_file(tmp_path, row)).prompts == (expected,)


def test_a_prompt_without_an_id_has_its_line(tmp_path: Path) -> None:
    name = in_file(tmp_path, "", {"prompt": "a"}, "", {"prompt": "b"})
    assert [prompt.id for prompt in load_prompts(name).prompts] == ["2", "4"]


def test_a_limit_takes_the_first(tmp_path: Path) -> None:
    name = in_file(tmp_path, *({"prompt": text} for text in "abc"))
    assert [prompt.text for prompt in load_prompts(name, 2).prompts] == ["a", "b"]
    assert len(load_prompts(name, 0).prompts) == 3
    assert len(load_prompts(name, 9).prompts) == 3


@pytest.mark.parametrize(
    ("line", "error", "mend"),
    [
        ('{"prompt": "a', "not valid JSON", "Unterminated"),
        ("{" * 1_000 + '"a":' * 100_000, "not valid JSON", ""),
        ("[" * 100_000, "not valid JSON", ""),
        ("{}", "no prompt", "prompt, text, instruction"),
        ('{"prompt": " "}', "no prompt", "prompt, text, instruction"),
        ('{"prompt": null}', "no prompt", "prompt, text, instruction"),
        ('{"prompt": ["a"]}', "no prompt", "prompt, text, instruction"),
        ('"a"', "no prompt", "prompt, text, instruction"),
        ("5", "no prompt", "prompt, text, instruction"),
    ],
)
def test_a_row_that_is_no_prompt_is_named_by_its_line(tmp_path: Path, line: str, error: str, mend: str) -> None:
    name = in_file(tmp_path, {"prompt": "a"}, line)
    refusal = refused(name)
    assert error in refusal.error
    assert refusal.where == f"{name}:2"
    assert mend in refusal.mend


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    refusal = refused(
        in_file(tmp_path, {"id": "x", "prompt": "a"}, {"id": "y", "prompt": "a"}, {"id": "x", "prompt": "b"})
    )
    assert refusal.error == "two prompts have the id x"
    assert refused(in_file(tmp_path, {"id": "2", "prompt": "a"}, {"prompt": "b"})).error == "two prompts have the id 2"


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    assert "empty" in refused(in_file(tmp_path, "", " ")).error


def test_a_set_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOALA_DATA", raising=False)
    for name in (str(tmp_path / "nowhere.jsonl"), str(tmp_path)):
        refusal = refused(name)
        assert (refusal.error, refusal.where) == ("the prompt set is not there", name)
        assert "vicuna" in refusal.mend
    refusal = refused("koala")
    assert refusal.where == "--prompts koala"
    assert "KOALA_DATA" in refusal.mend
    assert "koala-ray fetch koala --to DIR" in refusal.mend
    monkeypatch.setenv("KOALA_DATA", str(tmp_path))
    assert refused("koala").where.endswith("prompts/koala_test_set.jsonl")
    assert f"`koala-ray fetch koala --to {tmp_path}`" in refused("koala").mend


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n')
    assert [(prompt.id, prompt.text) for prompt in load_prompts(str(path)).prompts] == [("1", "a"), ("3", "b")]


def test_a_set_on_object_storage(s3_endpoint: str) -> None:
    uri = new_bucket()
    place = storage.join(uri, "prompts/mine.jsonl")
    storage.write_atomic(place, b'{"id": "x", "prompt": "Hi!"}\n')
    assert load_prompts(place) == PromptSet("mine", (Prompt("x", "Hi!"),))
    assert refused(storage.join(uri, "nowhere.jsonl")).error == "the prompt set is not there"


VISIBLE = st.text(min_size=1).filter(lambda text: bool(text.strip()))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), VISIBLE, min_size=1, max_size=5), st.booleans())
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str], ascii_only: bool) -> None:
    lines = [json.dumps({"id": id_, "prompt": text}, ensure_ascii=ascii_only) for id_, text in texts.items()]
    path = tmp_path_factory.mktemp("prompts") / "x.jsonl"
    path.write_text("\n".join(lines), "utf-8", newline="\n")
    loaded = load_prompts(str(path))
    assert {prompt.id: prompt.text for prompt in loaded.prompts} == {id_: text.strip() for id_, text in texts.items()}


@pytest.mark.parametrize("prompt", [Prompt("x", "a"), Prompt("x", "a", ("b",)), Prompt("x", "a", ("b", "c\nd"))])
def test_a_prompt_as_a_row_is_read_as_the_prompt(tmp_path: Path, prompt: Prompt) -> None:
    assert load_prompts(in_file(tmp_path, prompt.as_row())).prompts == (prompt,)


def test_the_hash_is_of_ids_and_texts_in_order() -> None:
    base = PromptSet("a", (Prompt("1", "x"), Prompt("2", "y")))
    assert base.hash() == PromptSet("b", base.prompts).hash()
    others = [
        PromptSet("a", base.prompts[::-1]),
        PromptSet("a", base.prompts[:1]),
        PromptSet("a", (Prompt("1", "x"), Prompt("3", "y"))),
        PromptSet("a", (Prompt("1", "x"), Prompt("2", "z"))),
    ]
    assert len({prompts.hash() for prompts in [base, *others]}) == 5


def test_the_sample_set_comes_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path))
    prompts = load_prompts("sample")
    assert prompts.name == "sample"
    assert len(prompts.prompts) >= 10


@pytest.mark.parametrize(("name", "prompts"), [("koala", 180), ("self-instruct", 252), ("vicuna", 80)])
def test_real_sets(real_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, prompts: int) -> None:
    monkeypatch.setenv("KOALA_DATA", str(real_data))
    assert len(load_prompts(name).prompts) == prompts


def test_a_stored_set_is_found_below_the_data_folder_or_the_named_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompts" / "vicuna_80.jsonl"
    file.parent.mkdir()
    file.write_text('{"question_id": 1, "text": "Hi!"}\n')
    monkeypatch.delenv("KOALA_DATA", raising=False)
    found = load_prompts("vicuna", data=str(tmp_path))
    assert found == PromptSet("vicuna", (Prompt("1", "Hi!"),), "Apache-2.0")
    monkeypatch.setenv("KOALA_DATA", str(tmp_path))
    assert load_prompts("vicuna", data=str(tmp_path / "prompts")) == found


def test_a_licence_is_a_stored_sets_and_not_a_names(tmp_path: Path) -> None:
    own = tmp_path / "prompts" / "koala_test_set.jsonl"
    own.parent.mkdir()
    own.write_text('{"prompt": "Hi!"}\n')
    named = own.rename(tmp_path / "koala.jsonl")
    assert load_prompts(str(named)).licence == ""
    own.write_text('{"prompt": "Hi!"}\n')
    assert load_prompts("koala", data=str(tmp_path)).licence == load_prompts("sample").licence == "Apache-2.0"
