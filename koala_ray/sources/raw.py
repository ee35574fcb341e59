"""Raw files as the sources publish them: JSON lines or one JSON array, plain or compressed, whole or damaged.

A file gives a stream of rows, each with its line; what can't be read gives a fault in its place and the
stream goes on. Nothing here raises for what a file holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from koala_ray import storage

BLOCK = 1 << 20
EXCERPT = 200
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class RawRow:
    """One JSON value of a raw file, with the line (from 1) on which it begins."""

    line: int
    value: Any


@dataclass(frozen=True)
class RawFault:
    """A place in a raw file that holds no readable row."""

    line: int
    reason: str
    excerpt: str


def read_rows(uri: str) -> Iterator[RawRow | RawFault]:
    """The rows and faults of a raw file in order.

    Bytes that are not UTF-8 are kept as lone surrogates, so that only the row that holds them is lost.
    """
    if uri.endswith((".gz", ".zst", ".zstd")):
        yield from _guarded(uri, "infer")
    else:
        yield from _guarded(uri, None)


def _guarded(uri: str, compression: str | None) -> Iterator[RawRow | RawFault]:
    line = 0
    try:
        with storage.open_read(uri, compression) as file:
            for item in _sniff(file):
                line = item.line
                yield item
    except (EOFError, OSError, ValueError) as error:
        # gzip's and zstd's ways to say that the compressed data is cut off or damaged.
        if compression is None:
            raise
        yield RawFault(line + 1, "damaged compression", str(error)[:EXCERPT])


def _sniff(file: IO[bytes]) -> Iterator[RawRow | RawFault]:
    """Tell an array from JSON lines by the first character that isn't white space."""
    head = file.read(BLOCK)
    if head.startswith(b"\xef\xbb\xbf"):
        head = head[3:]
    if not head.strip():
        yield RawFault(1, "empty file", "")
        return
    if head.lstrip()[:1] == b"[":
        yield from _array(head, file)
    else:
        yield from _lines(head, file)


def _lines(head: bytes, file: IO[bytes]) -> Iterator[RawRow | RawFault]:
    line, rest = 0, head
    while True:
        *whole, rest = rest.split(b"\n")
        for data in whole:
            line += 1
            yield from _one_line(data, line)
        block = file.read(BLOCK)
        if not block:
            yield from _one_line(rest, line + 1)
            return
        rest += block


def _one_line(data: bytes, line: int) -> Iterator[RawRow | RawFault]:
    if not data.strip():
        return
    text = data.decode("utf-8", "surrogateescape").strip()
    try:
        yield RawRow(line, json.loads(text))
    except (ValueError, RecursionError):
        yield RawFault(line, "not valid JSON", _excerpt(text))


def _array(head: bytes, file: IO[bytes]) -> Iterator[RawRow | RawFault]:
    """The elements of one JSON array, read block by block; a cut-off element ends the file."""
    text = head.decode("utf-8", "surrogateescape")
    # A block may end inside a character: keep the undecoded tail's bytes together by decoding what is read so
    # far in one piece. surrogateescape makes half characters of it, mended when the next block joins.
    start = text.index("[")
    line = text.count("\n", 0, start) + 1
    text = text[start + 1 :]
    ended = False
    while True:
        stripped = text.lstrip(" \t\r\n,")
        line += text.count("\n", 0, len(text) - len(stripped))
        text = stripped
        if text.startswith("]"):
            return
        try:
            if not text:
                raise ValueError("more is needed")
            value, end = _DECODER.raw_decode(text)
            if end == len(text) and not ended:
                raise ValueError("a number may go on in the next block")
        except (ValueError, RecursionError) as error:
            if not ended:
                # Twice as much each time, so that a huge element costs no more than reading it a few times.
                block = file.read(max(BLOCK, len(text)))
                ended = not block
                joined = text.encode("utf-8", "surrogateescape") + block
                text = joined.decode("utf-8", "surrogateescape")
                if block:
                    continue
            if not text.strip():
                yield RawFault(line, "cut-off JSON", "the array is not closed")
                return
            resumed = _next_element(text)
            if resumed is None:
                yield RawFault(line, "cut-off JSON", _excerpt(text))
                return
            yield RawFault(line, "not valid JSON", _excerpt(f"{error}: {text[:resumed]}"))
            line += text.count("\n", 0, resumed)
            text = text[resumed:]
            continue
        yield RawRow(line, value)
        line += text.count("\n", 0, end)
        text = text[end:]


def _next_element(text: str) -> int | None:
    """Where the element after a damaged one begins, if the file goes on: after a line that ends ``},``."""
    for separator in ("},\n", "}, \n", "},\r\n"):
        place = text.find(separator)
        if 0 <= place < len(text) - len(separator):
            return place + len(separator)
    return None


def _excerpt(text: str) -> str:
    return text[:EXCERPT].encode("utf-8", "replace").decode()
