"""Fetching the prompt sets that are known by name: whole, what was published, and where `load_prompts` reads them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run
from publisher import Publisher, Served

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.prompts import STORED, Prompt, PromptSet, load_prompts, stored_sets
from koala_ray.sources import fetch as fetching
from koala_ray.sources import prompt_sets
from koala_ray.sources.fetch import fetch
from koala_ray.sources.prompt_sets import PROMPT_SETS, PublicPrompts
from koala_ray.sources.registry import SOURCES

ROWS = b"".join(
    json.dumps({"question_id": n, "category": "writing", "turns": [f"Write letter {n}.", f"Shorten it to {n} words."]})
    .encode()
    .ljust(500)
    + b"\n"
    for n in range(81, 161)
)
FILE = "prompts/mt_bench_80.jsonl"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture(autouse=True)
def quick_and_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "BACKOFF", 0.001)
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KOALA_DATA", raising=False)


def offered(publisher: Publisher, name: str, data: bytes, served: Served | None = None) -> PublicPrompts:
    """The prompt set as if it had been published there with these bytes."""
    publisher.files[f"/{name}.jsonl"] = served or Served(data)
    return replace(PROMPT_SETS[name], url=f"{publisher.url}/{name}.jsonl", sha256=hashlib.sha256(data).hexdigest())


def test_every_stored_set_can_be_fetched_to_where_it_is_read() -> None:
    assert PROMPT_SETS.keys() == STORED.keys()
    assert not PROMPT_SETS.keys() & SOURCES.keys(), "one command fetches both by name"
    for name, found in PROMPT_SETS.items():
        (file,) = found.files
        assert (file.name, found.licence) == (STORED[name].file, STORED[name].licence)
        assert not found.record.endswith((".jsonl", ".json", ".parquet")), "a record is no prompts"
    assert len({found.record for found in PROMPT_SETS.values()}) == len({stored.file for stored in STORED.values()})


def test_the_addresses_name_commits_and_the_bytes_are_known() -> None:
    for found in PROMPT_SETS.values():
        repository = found.home.replace("https://github.com/", "https://raw.githubusercontent.com/")
        assert re.fullmatch(rf"{re.escape(repository)}/[0-9a-f]{{40}}/.+\.jsonl", found.url)
        assert re.fullmatch("[0-9a-f]{64}", found.sha256)


@pytest.mark.parametrize(
    ("name", "prompts"), [("koala", 180), ("self-instruct", 252), ("vicuna", 80), ("alpaca-180", 180)]
)
def test_the_real_file_is_what_is_expected(
    real_data: Path, tmp_path: Path, publisher: Publisher, name: str, prompts: int
) -> None:
    publisher.files["/real.jsonl"] = Served((real_data / STORED[name].file).read_bytes())
    fetch(replace(PROMPT_SETS[name], url=f"{publisher.url}/real.jsonl"), str(tmp_path))
    assert len(load_prompts(name, data=str(tmp_path)).prompts) == prompts


def test_a_set_comes_with_a_record_is_found_and_a_rerun_asks_nobody(
    root: str, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    source = offered(publisher, "mt-bench", ROWS)
    figures = fetch(source, root)
    said = capsys.readouterr().err
    assert said.index("Apache-2.0") < said.index("Zheng et al.") < said.index(FILE)
    assert [file.relative for file in storage.list_files(root)] == ["prompts/FETCHED-mt-bench", FILE]
    record = json.loads(storage.read_bytes(f"{root}/prompts/FETCHED-mt-bench"))
    assert (record["licence"], record["home"]) == ("Apache-2.0", "https://github.com/lm-sys/FastChat")
    assert [{**entry, "kept": False} for entry in record["files"]] == figures["files"]
    assert figures["files"][0]["sha256"] == source.sha256
    found = load_prompts("mt-bench", data=root)
    assert found.prompts[0] == Prompt("81", "Write letter 81.", ("Shorten it to 81 words.",))
    assert stored_sets(root) == [PromptSet("mt-bench", found.prompts, "Apache-2.0")]
    again = fetch(source, root)
    assert len(publisher.log) == 1
    assert (again["bytes"], again["files"][0]["kept"]) == (0, True)
    assert json.loads(storage.read_bytes(f"{root}/prompts/FETCHED-mt-bench")) == record


def test_several_sets_share_a_folder_each_with_its_own_record(tmp_path: Path, publisher: Publisher) -> None:
    for name in ("mt-bench", "vicuna", "koala"):
        fetch(offered(publisher, name, f'{{"id": "1", "prompt": "Whose? {name}\'s."}}\n'.encode()), str(tmp_path))
    assert [found.name for found in stored_sets(str(tmp_path))] == ["koala", "vicuna", "mt-bench"]
    for name in ("mt-bench", "vicuna", "koala"):
        record = json.loads((tmp_path / "prompts" / f"FETCHED-{name}").read_text())
        assert (record["name"], [file["name"] for file in record["files"]]) == (name, [STORED[name].file])


def test_a_connection_that_breaks_is_gone_on_with(root: str, publisher: Publisher) -> None:
    fetch(offered(publisher, "mt-bench", ROWS, Served(ROWS, cuts=[10_000, 5_000])), root)
    assert [asked.range for asked in publisher.log] == ["", "bytes=10000-", "bytes=15000-"]
    assert storage.read_bytes(f"{root}/{FILE}") == ROWS


def test_bytes_that_were_not_published_are_refused_and_the_part_goes(root: str, publisher: Publisher) -> None:
    other = ROWS.replace(b"letter", b"poem  ")
    source = offered(publisher, "mt-bench", ROWS, Served(other))
    with pytest.raises(KoalaError, match="than was published") as caught:
        fetch(source, root)
    assert source.sha256 in caught.value.error
    assert hashlib.sha256(other).hexdigest() in caught.value.error
    assert caught.value.where == source.url
    assert source.home in caught.value.mend
    assert storage.list_files(root) == []
    publisher.files["/mt-bench.jsonl"] = Served(ROWS)
    fetch(source, root)
    assert publisher.log[-1].range == "", "nothing of the wrong file is kept"
    assert storage.read_bytes(f"{root}/{FILE}") == ROWS


@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_that_is_there_is_known_by_its_bytes_alone(root: str, publisher: Publisher, recorded: bool) -> None:
    source = offered(publisher, "mt-bench", ROWS)
    if recorded:
        fetch(source, root)
        publisher.log.clear()
    storage.write_atomic(f"{root}/{FILE}", ROWS)
    assert fetch(source, root)["files"][0]["kept"]
    assert publisher.log == []
    # As long as the right one: a server that states no sha256 couldn't tell them apart.
    storage.write_atomic(f"{root}/{FILE}", ROWS[::-1])
    assert not fetch(source, root)["files"][0]["kept"]
    assert storage.read_bytes(f"{root}/{FILE}") == ROWS


def test_the_command_fetches_both_names_of_a_file_once(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = offered(publisher, "self-instruct", b'{"id": "1", "instruction": "Hi!"}\n')
    served = PROMPT_SETS | {"self-instruct": source, "alpaca-180": source}
    monkeypatch.setattr(prompt_sets, "PROMPT_SETS", served)
    result = run("fetch", "self-instruct", "alpaca-180", "--to", str(tmp_path / "raw"), "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["sources"], list(figures["prompts"])) == ({}, ["self-instruct", "alpaca-180"])
    assert [found["files"][0]["kept"] for found in figures["prompts"].values()] == [False, True]
    assert len(publisher.log) == 1
    assert len(load_prompts("alpaca-180", data=str(tmp_path / "raw")).prompts) == 1


def test_the_command_names_every_set_it_can_fetch() -> None:
    described = run("fetch", "--help").stdout
    unknown = run("fetch", "hc4", "--to", "o")
    for name in PROMPT_SETS:
        assert name in described
        assert name in unknown.stderr
