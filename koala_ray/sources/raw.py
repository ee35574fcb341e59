"""Raw files as the sources publish them: JSON lines or one JSON array, plain or compressed, whole or damaged.

A file gives a stream of rows, each with its line; what can't be read gives a fault in its place and the
stream goes on. Nothing here raises for what a file holds.
"""

from __future__ import annotations

import json
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from koala_ray import storage

BLOCK = 1 << 16
"""Bytes that are read at once at least. Where compressed data is damaged, up to so many before it may be lost."""
EXCERPT = 200
LONGEST_TOKEN = 16
"""Characters that the decoder may need to see together: a literal, or a pair of ``\\u`` escapes."""
_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[ \t\r\n,]*")
_WHITE = re.compile(r"[ \t\r\n]*")
_OPENING = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"')


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
    except (EOFError, OSError, zlib.error) as error:
        if compression is None or not _is_damage(error):
            raise
        yield RawFault(line + 1, "damaged compression", str(error)[:EXCERPT])


def _is_damage(error: Exception) -> bool:
    """Whether gzip or zstd says that its data is cut off or damaged, rather than the storage that it can't be had."""
    return not isinstance(error, FileNotFoundError | PermissionError) and getattr(error, "errno", None) is None


def _read(file: IO[bytes], size: int = 0) -> bytes:
    """The next piece of a file; empty only at its end.

    ``read1`` where there is one: ``read`` would lose what was unpacked before the place of a damage.
    """
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    return read(max(BLOCK, size))


def _sniff(file: IO[bytes]) -> Iterator[RawRow | RawFault]:
    """Tell an array from JSON lines by the first character that isn't white space."""
    head = b""
    while len(head) < len(BOM_UTF8) or not head.removeprefix(BOM_UTF8).strip():
        block = _read(file)
        if not block:
            break
        head += block
    head = head.removeprefix(BOM_UTF8)
    if not head.strip():
        yield RawFault(1, "empty file", "")
    elif head.lstrip().startswith(b"["):
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
        # Twice as much each time, so that a huge line costs no more than reading it a few times.
        block = _read(file, len(rest))
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
    """The elements of one JSON array, read block by block. After a damaged one the next is looked for."""
    text = head.decode("utf-8", "surrogateescape")
    place = text.index("[") + 1
    line = text.count("\n", 0, place) + 1
    ended = False

    def read_more() -> None:
        nonlocal text, place, ended
        # A block may end inside a character. Its bytes became half characters, which are mended here.
        rest = text[place:].encode("utf-8", "surrogateescape")
        block = _read(file, len(rest))
        ended = not block
        text, place = (rest + block).decode("utf-8", "surrogateescape"), 0

    while True:
        gap = _end_of(_GAP, text, place)
        line += text.count("\n", place, gap)
        place = gap
        if place == len(text) or (text[place] == "]" and _end_of(_WHITE, text, place + 1) == len(text)):
            if not ended:
                read_more()
                continue
            if place == len(text):
                yield RawFault(line, "cut-off JSON", "the array is not closed")
            return
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            cut_off = _may_go_on(error, len(text))
            following = None if cut_off and not ended else _next_element(text, place)
            if following is None and not ended:
                read_more()
                continue
            reason = "cut-off JSON" if cut_off and following is None else "not valid JSON"
            yield RawFault(line, reason, _excerpt(text[place : place + EXCERPT]))
            if following is None:
                return
            line += text.count("\n", place, following)
            place = following
            continue
        if len(text) - end < LONGEST_TOKEN and not ended:
            read_more()  # a number may go on in the next block, even after "1." or "1e-"
            continue
        yield RawRow(line, value)
        line += text.count("\n", place, end)
        place = end


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place


def _may_go_on(error: Exception, length: int) -> bool:
    """Whether the decoder stopped because the text ended, rather than at something that isn't JSON."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= length - LONGEST_TOKEN


def _next_element(text: str, place: int) -> int | None:
    """Where the element after a damaged one begins: at an object with the same first key, after another's end.

    That tells the rows from the objects inside them, which have other keys.
    """
    opening = _OPENING.match(text, place)
    if not opening:
        return None
    following = re.compile(r"\}\s*,\s*(?=" + re.escape(opening.group()) + ")").search(text, opening.end())
    return following.end() if following else None


def _excerpt(text: str) -> str:
    return text[:EXCERPT].encode("utf-8", "replace").decode()
