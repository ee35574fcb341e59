"""The sources that can be read, where their raw files are, and the one way from a raw row to its examples."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import SAMPLE_ROOT, SOURCE_NAMES, DataSettings
from koala_ray.records import Example, Rejected
from koala_ray.samples import sample_root
from koala_ray.sources import alpaca, hc3, hh, identity, oig, sharegpt, summarize, webgpt
from koala_ray.sources.base import Found, RowRejected, Source, check_text
from koala_ray.sources.raw import EXCERPT, RawRow, excerpt, parse_row, read_rows

_MODULES = (sharegpt, hc3, oig, alpaca, hh, webgpt, summarize, identity)
SOURCES: dict[str, Source] = {module.SOURCE.name: module.SOURCE for module in _MODULES}
"""In the order of :data:`koala_ray.recipe.SOURCE_NAMES`."""


def find_files(data: DataSettings) -> dict[str, list[storage.StoredFile]]:
    """The raw files of each source that a recipe asks for, in order.

    Raises:
        KoalaError: the root isn't there, or a glob that was asked for matches nothing.
    """
    root = sample_root() if data.root == SAMPLE_ROOT else data.root
    if not storage.exists(root):
        raise KoalaError("the data folder is not there", where=root, mend="give a folder or URI with --data")
    if not data.sources:
        found = _by_usual_names(root)
        if not found:
            raise KoalaError(
                "no raw file of any source was found",
                where=root,
                mend=f"name files or folders by their source ({', '.join(SOURCES)}), such as hc3.jsonl, "
                "alpaca/data.json or hh/train.jsonl.gz, or say where they are: "
                "--set 'data.sources.hc3=[\"my/*.jsonl\"]'",
            )
        return found
    wanted: dict[str, list[storage.StoredFile]] = {}
    for name in SOURCE_NAMES:
        if name in data.sources:
            wanted[name] = storage.list_files(root, data.sources[name])
            if not wanted[name] and data.sources[name] == list(SOURCES[name].usual_names):
                raise KoalaError(
                    f"no file of {name} is there under its usual names, and the mixture asks for it",
                    where=root,
                    mend=f"`koala-ray fetch {name} --to {root}`, name your files {name}/*.json and the like, say where "
                    f"they are (--set 'data.sources.{name}=[\"GLOB\"]'), or take another data.mixture",
                )
            if not wanted[name]:
                raise KoalaError(
                    f"no file matches {', '.join(data.sources[name])}",
                    where=f"data.sources.{name} below {root}",
                    mend="globs are relative to data.root: * stays within a folder, ** goes across",
                )
    return wanted


def _by_usual_names(root: str) -> dict[str, list[storage.StoredFile]]:
    # One listing for all: a bucket may hold far more than raw files. No source's name is the beginning of another's.
    usual = [name for name, source in SOURCES.items() if not source.optional]
    files = storage.list_files(root, [pattern for name in usual for pattern in SOURCES[name].usual_names])
    found = {name: [f for f in files if f.relative.removeprefix("sources/").startswith(name)] for name in usual}
    return {name: files for name, files in found.items() if files}


def check_layouts(files: dict[str, list[storage.StoredFile]]) -> None:
    """Look at the first raw row of each file, before hours are spent on what isn't the source's.

    Raises:
        KoalaError: a file holds another data set by the source's publishers.
    """
    for name, found in files.items():
        for file in found:
            first = next(iter(read_rows(file.uri)), None)
            other = _other_data_set(SOURCES[name], first) if isinstance(first, RawRow) else None
            if other is not None:
                raise KoalaError(
                    f"{name}: this file holds {other}",
                    where=file.uri,
                    mend=f"leave it out: name the files that are meant, --set 'data.sources.{name}=[\"GLOB\"]'",
                )


def _other_data_set(source: Source, row: RawRow) -> str | None:
    try:
        ((value, _),) = parse_row(row)
    except ValueError:
        return None
    return source.refused(value)


def examples(source_name: str, relative: str, row: RawRow, seed: int) -> list[Example | Rejected]:
    """All that a raw row gives: examples, and in place of each dialogue that it doesn't give, why.

    A row of several parts gives an item for each of them. Nothing is raised for what a row holds.
    """
    try:
        parts = parse_row(row)
    except ValueError:
        beginning = excerpt(row.data[: 4 * EXCERPT].decode("utf-8", "replace"))
        return [Rejected(source_name, relative, row.line, "read", "not valid JSON", beginning)] * row.parts
    origin = f"{source_name}/{relative}#{row.line}" + (f".{row.place}" if row.place > 1 else "")
    items: list[Example | Rejected] = []
    for found in _found(SOURCES[source_name], [value for value, _ in parts], seed):
        by, reason = "layout", found.reason
        if found.dialogue is not None:
            try:
                check_text(found.dialogue)
            except RowRejected as rejected:
                by, reason = "read", rejected.reason
            else:
                id_ = f"{origin}/{found.side}" if found.side else origin
                items.append(
                    Example(id_, source_name, found.dialogue, origin, relative, row.line, repairs=found.repairs)
                )
                continue
        text = parts[len(items) if row.parts > 1 else 0][1]
        # What was found there is quoted in some reasons, and need not be Unicode.
        items.append(Rejected(source_name, relative, row.line, by, excerpt(reason), excerpt(text)))
    return items


def _found(source: Source, values: list[object], seed: int) -> Iterator[Found]:
    value = values[0] if len(values) == 1 else values
    try:
        other = source.refused(value)
        if other is not None:
            raise RowRejected(f"another data set: {other}")
        if source.group is not None and len(values) == 1 and isinstance(value, list):
            raise RowRejected("not a JSON object")  # a list means grouped rows there
        yield from source.parse(value, seed)
    except RowRejected as rejected:
        yield Found("", None, rejected.reason)
