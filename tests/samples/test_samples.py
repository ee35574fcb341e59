from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import koala_ray.samples
from koala_ray.samples import SAMPLE_PROMPTS, SAMPLE_SOURCES, write_samples
from koala_ray.samples.notation import blocks, named

GOLDEN = "ad1d812bec0d41f5a93e5d67cde2e46ded633d8d83d05b9266748d0ee5ed9d72"
OIG = ("grade_school_math", "poetry_to_songs", "plot_screenplay_books_dialogue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples")
    write_samples(path)
    return path


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    text = content(folder / name).decode()
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)


def hh_turns(transcript: str) -> list[tuple[str, str]]:
    parts = re.split(r"\n\n(Human|Assistant): ", transcript)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def queries(folder: Path) -> list[str]:
    found = []
    for dialogue in rows(folder, "sources/sharegpt.json"):
        found += [turn["value"] for turn in dialogue["conversations"] if turn["from"] == "human"]
    found += [row["question"] for row in rows(folder, "sources/hc3.jsonl")]
    for row in rows(folder, "sources/alpaca.json"):
        found.append(f"{row['instruction']} {row['input']}")
    for name in OIG:
        for row in rows(folder, f"sources/oig_{name}.jsonl"):
            found.append(row["text"].removeprefix("<human>: ").split("\n<bot>: ")[0])
    for row in rows(folder, "sources/hh.jsonl.gz"):
        found += [text for role, text in hh_turns(row["chosen"]) if role == "Human"]
    found += [row["question"]["full_text"] for row in rows(folder, "sources/webgpt.jsonl")]
    found += [row["info"]["post"] for row in rows(folder, "sources/summarize.jsonl")]
    return found


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def test_same_bytes_each_time(folder, tmp_path):
    write_samples(str(tmp_path))
    write_samples(tmp_path)
    assert files(tmp_path) == files(folder)
    for name in files(folder):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_same_content_as_ever(folder):
    # Compressed files are hashed by what they hold, as zlib may pack the same content differently elsewhere.
    tree = hashlib.sha256()
    for name in files(folder):
        tree.update(f"{name} {hashlib.sha256(content(folder / name)).hexdigest()}\n".encode())
    assert tree.hexdigest() == GOLDEN


def test_only_the_standard_library_is_imported():
    code = (
        "import sys; before = set(sys.modules); import koala_ray.samples; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "sys.exit(' '.join(new - {'koala_ray'} - sys.stdlib_module_names) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_globs_cover_every_source_file(folder, tmp_path):
    assert write_samples(tmp_path) == SAMPLE_SOURCES
    found = [path for globs in SAMPLE_SOURCES.values() for glob in globs for path in folder.glob(glob)]
    matched = sorted(path.relative_to(folder).as_posix() for path in found)
    assert matched == [name for name in files(folder) if name != SAMPLE_PROMPTS]


def test_readme_counts_are_true(folder):
    readme = Path(koala_ray.samples.__file__).with_name("README.md").read_text(encoding="utf-8")
    stated = {name: int(count) for name, count in re.findall(r"^\| (\S+/\S+) \| (\d+) \|", readme, re.M)}
    assert stated == {name: len(rows(folder, name)) for name in files(folder)}


def test_sharegpt(folder):
    dialogues = rows(folder, "sources/sharegpt.json")
    assert len({dialogue["id"] for dialogue in dialogues}) == len(dialogues)
    for dialogue in dialogues:
        assert dialogue.keys() == {"id", "conversations"}
        speakers = [turn["from"] for turn in dialogue["conversations"]]
        assert speakers == ["human", "gpt"] * (len(speakers) // 2)
        assert 2 <= len(speakers) <= 8
        text = " ".join(turn["value"] for turn in dialogue["conversations"]).casefold()
        assert not re.search(r"openai|open-ai|open ai|chatgpt|chat-gpt|chadgpt|gpt-?3|copy code", text)


def test_hc3(folder):
    for row in rows(folder, "sources/hc3.jsonl"):
        assert row.keys() == {"question", "human_answers", "chatgpt_answers", "source"}
        assert 1 <= len(row["human_answers"]) <= 2
        assert len(row["chatgpt_answers"]) == 1
        assert row["source"] in {"open_qa", "reddit_eli5", "medicine", "finance", "wiki_csai"}


def test_alpaca(folder):
    instructions = rows(folder, "sources/alpaca.json")
    for row in instructions:
        assert row.keys() == {"instruction", "input", "output"}
        assert row["instruction"]
    assert 20 <= sum(bool(row["input"]) for row in instructions) <= 45


@pytest.mark.parametrize("name", OIG)
def test_oig(folder, name):
    for row in rows(folder, f"sources/oig_{name}.jsonl"):
        assert row["metadata"] == {"source": name.replace("_", "-")}
        assert re.fullmatch(r"<human>: (?!<).+\n<bot>: .+", row["text"], re.S)
        assert Counter(re.findall(r"<human>|<bot>", row["text"])) == {"<human>": 1, "<bot>": 1}


def test_sums_are_right(folder):
    sums = 0
    texts = [row["text"] for row in rows(folder, "sources/oig_grade_school_math.jsonl")]
    texts += [row["output"] for row in rows(folder, "sources/alpaca.json")]
    for text in texts:
        for left, right in re.findall(r"((?:[\d.]+ [-+×÷] )+[\d.]+) = ([\d.]*\d)", text):
            value = eval(left.replace("×", "*").replace("÷", "/"))
            assert value == pytest.approx(float(right)), text
            sums += 1
    assert sums >= 80


def test_hh_pairs_differ_in_the_last_answer_only(folder):
    for row in rows(folder, "sources/hh.jsonl.gz"):
        assert row.keys() == {"chosen", "rejected"}
        chosen, rejected = hh_turns(row["chosen"]), hh_turns(row["rejected"])
        assert [role for role, _ in chosen] == ["Human", "Assistant"] * (len(chosen) // 2)
        assert chosen[:-1] == rejected[:-1]
        assert chosen[-1][0] == rejected[-1][0] == "Assistant"
        assert chosen[-1][1] != rejected[-1][1]


def test_webgpt_scores_sum_to_zero(folder):
    comparisons = rows(folder, "sources/webgpt.jsonl")
    for row in comparisons:
        parts = ("answer", "quotes", "tokens", "score")
        assert row.keys() == {"question"} | {f"{part}_{side}" for part in parts for side in (0, 1)}
        assert row["question"].keys() == {"dataset", "id", "full_text"}
        assert row["score_0"] + row["score_1"] == 0
        assert -1 <= row["score_0"] <= 1
        for side in (0, 1):
            assert row[f"answer_{side}"].endswith("[1]")
            assert len(row[f"quotes_{side}"]["title"]) == len(row[f"quotes_{side}"]["extract"]) == 1
            assert row[f"tokens_{side}"].keys() == {"prefix", "completion"}
    assert sum(row["score_0"] == 0 for row in comparisons) == 2
    assert {row["score_0"] > 0 for row in comparisons} == {True, False}


def test_summarize(folder):
    comparisons = rows(folder, "sources/summarize.jsonl")
    for row in comparisons:
        assert row.keys() == {"info", "summaries", "choice", "worker", "batch", "split", "extra"}
        assert row["info"].keys() == {"id", "post", "title", "subreddit"}
        assert [summary.keys() for summary in row["summaries"]] == [{"text", "policy", "note"}] * 2
        assert all(0 < words(summary["text"]) < words(row["info"]["post"]) for summary in row["summaries"])
    assert Counter(row["choice"] for row in comparisons) == {0: 8, 1: 8}


def test_answers_are_neither_short_nor_long_and_few_enough_for_a_demo(folder):
    asked, answers = [], []
    for dialogue in rows(folder, "sources/sharegpt.json"):
        for turn in dialogue["conversations"]:
            (asked if turn["from"] == "human" else answers).append(turn["value"])
    for row in rows(folder, "sources/hc3.jsonl"):
        asked.append(row["question"])
        answers += row["human_answers"] + row["chatgpt_answers"]
    for row in rows(folder, "sources/alpaca.json"):
        asked += [row["instruction"], row["input"]]
        answers.append(row["output"])
    assert [answer for answer in answers if not 15 <= words(answer) <= 120] == []
    assert 11_000 <= words(*asked, *answers) <= 13_000


def test_no_query_stands_twice(folder):
    twice = [text for text, count in Counter(map(plain, queries(folder))).items() if count > 1]
    assert twice == []


def test_no_prompt_stands_in_the_corpus(folder):
    prompts = rows(folder, SAMPLE_PROMPTS)
    assert len({row["id"] for row in prompts}) == len({row["prompt"] for row in prompts}) == 12
    corpus = [plain(content(folder / name).decode()) for name in files(folder) if name != SAMPLE_PROMPTS]
    for row in prompts:
        assert row.keys() == {"id", "prompt"}
        assert not any(plain(row["prompt"]) in text for text in corpus), row["prompt"]


def test_notation_keeps_lists_and_barred_lines():
    (block,) = blocks("YOU: One\ntwo.\nBOT: Three.\n|     code\n| four\nfive\n1. six\n- seven\n---\n")
    assert named(block) == {"YOU": "One two.", "BOT": "Three.\n    code\nfour five\n1. six\n- seven"}


@pytest.mark.parametrize("text", ["no label", "YOU: one\nYOU: two"])
def test_notation_refuses_what_it_cannot_read(text):
    with pytest.raises(ValueError, match="block"):
        named(blocks(text)[0])
