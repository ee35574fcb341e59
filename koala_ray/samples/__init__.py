"""A small corpus of the project's own, in the raw layouts of the seven sources."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from koala_ray.samples import layouts

SAMPLE_SOURCES: dict[str, list[str]] = {
    "sharegpt": ["sources/sharegpt.json"],
    "hc3": ["sources/hc3.jsonl"],
    "oig": ["sources/oig_*.jsonl"],
    "alpaca": ["sources/alpaca.json"],
    "hh": ["sources/hh.jsonl.gz"],
    "webgpt": ["sources/webgpt.jsonl"],
    "summarize": ["sources/summarize.jsonl"],
}
SAMPLE_PROMPTS = "prompts/sample.jsonl"

_FILES = {
    "sources/sharegpt.json": layouts.sharegpt,
    "sources/hc3.jsonl": layouts.hc3,
    "sources/oig_grade_school_math.jsonl": layouts.oig_grade_school_math,
    "sources/oig_poetry_to_songs.jsonl": layouts.oig_poetry_to_songs,
    "sources/oig_plot_screenplay_books_dialogue.jsonl": layouts.oig_plot_screenplay_books_dialogue,
    "sources/alpaca.json": layouts.alpaca,
    "sources/hh.jsonl.gz": layouts.hh,
    "sources/webgpt.jsonl": layouts.webgpt,
    "sources/summarize.jsonl": layouts.summarize,
    SAMPLE_PROMPTS: layouts.prompts,
}


def write_samples(folder: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Write every sample file below a folder and give the globs of each source, relative to it.

    The bytes are the same each time, and files that are already there are replaced.
    """
    for name, content in _FILES.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    return {source: list(globs) for source, globs in SAMPLE_SOURCES.items()}


def sample_root() -> str:
    """The folder of the sample corpus, written on first use."""
    from koala_ray.home import cached_folder

    return str(cached_folder(f"sample-corpus-{samples_hash()[:12]}", write_samples))


def samples_hash() -> str:
    """sha256 over every sample file's name and bytes: names the version of the corpus."""
    digest = hashlib.sha256()
    for name, content in _FILES.items():
        digest.update(name.encode() + b"\0" + content())
    return digest.hexdigest()
