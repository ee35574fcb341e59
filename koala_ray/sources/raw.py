"""Raw files as the sources publish them: JSON lines, one JSON array, or Parquet; compressed; whole or damaged.

A file gives a stream of rows, each with its line and its own JSON text; what can't be read gives a fault in its place
and the stream goes on. Nothing here raises for what a file holds. JSON lines are only cut at their newlines: this is
what runs once over a whole file, and parsing is the work that goes on in parallel.
"""

from __future__ import annotations

import json
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import pyarrow as pa

from koala_ray import storage

BLOCK = 1 << 16
"""Bytes that are read at once at least. Where compressed data is damaged, up to so many before it may be lost."""
PARQUET_ROWS = 256
"""Rows of Parquet that are unpacked at once."""
GROUP = 1 << 24
"""A group of rows takes no further one when it holds so many bytes."""
EXCERPT = 200
LONGEST_TOKEN = 16
"""Characters that the decoder may need to see together: a literal, or a pair of ``\\u`` escapes."""
FIRST_LINES = 1 << 20
"""Bytes within which the first two lines must end to be looked at."""
_DECODER = json.JSONDecoder()
_TWO_LINES = re.compile(rb"\s*(\S[^\n]*)\n\s*(\S[^\n]*)\n")
_GAP = re.compile(r"[ \t\r\n,]*")
_WHITE = re.compile(r"[ \t\r\n]*")
_OPENING = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class RawRow:
    """One JSON value of a raw file, or several that belong together."""

    line: int
    """From 1, where it begins; in Parquet the row's number."""
    place: int
    """From 1: its place among those that begin on this line, since an array may stand on one."""
    data: bytes
    """Its JSON text as it stands in the file. A row of JSON lines was not parsed yet: it may be anything."""
    parts: int = 1
    """Raw rows that were grouped into it; where there are several, ``data`` is a JSON array of them."""


@dataclass(frozen=True, slots=True)
class RawFault:
    """A place in a raw file that holds no readable row."""

    line: int
    reason: str
    excerpt: str


Piece = tuple[int, bytes] | RawFault
"""A row's line and text, or a fault."""


def read_rows(uri: str, group: Callable[[object], str | None] | None = None) -> Iterator[RawRow | RawFault]:
    """The rows and faults of a raw file in order; no more of it is held than a block and a row (Parquet: a batch).

    Args:
        uri: the file. ``.parquet``, ``.gz`` and ``.zst`` are told by the name, the rest by what it holds.
        group: a parsed row's key. Neighbouring rows with the same one are put together; None stands alone.
    """
    return _read(uri) if group is None else _grouped(_read(uri), group)


def parse_row(row: RawRow) -> list[tuple[object, str]]:
    """The value of a raw row, or of each of its parts, with the text that it was read from.

    Bytes that are not UTF-8 become lone surrogates, so that they spoil only the text that holds them.

    Raises:
        ValueError: it is not valid JSON, or nested too deep, or holds a number too long for Python.
    """
    text = row.data.decode("utf-8", "surrogateescape")
    try:
        if row.parts == 1:
            return [(_DECODER.decode(text), text)]
        found, place = [], 1
        for _ in range(row.parts):
            value, end = _DECODER.raw_decode(text, place)
            found.append((value, text[place:end]))
            place = end + 1
        return found
    except RecursionError:
        raise ValueError("nested too deep") from None


def excerpt(text: str) -> str:
    """The beginning of a row's text, fit to be printed and stored."""
    return text[:EXCERPT].encode("utf-8", "replace").decode()


def _read(uri: str) -> Iterator[RawRow | RawFault]:
    compression = "infer" if uri.endswith((".gz", ".zst", ".zstd")) else None
    line = place = 0
    try:
        with storage.open_read(uri, compression) as file:
            for piece in _parquet(file) if uri.endswith(".parquet") else _sniff(file):
                begins = piece.line if isinstance(piece, RawFault) else piece[0]
                line, place = begins, place + 1 if begins == line else 1
                yield piece if isinstance(piece, RawFault) else RawRow(line, place, piece[1])
    except (EOFError, OSError, zlib.error) as error:
        if compression is None or not _is_damage(error):
            raise
        yield RawFault(line + 1, "damaged compression", excerpt(str(error)))


def _is_damage(error: Exception) -> bool:
    """Whether a format says that its data is cut off or damaged, rather than the storage that it can't be had."""
    return not isinstance(error, FileNotFoundError | PermissionError) and getattr(error, "errno", None) is None


def _grouped(items: Iterator[RawRow | RawFault], group: Callable[[object], str | None]) -> Iterator[RawRow | RawFault]:
    waiting: list[RawRow] = []
    key, size = None, 0
    for item in items:
        found = None if isinstance(item, RawFault) else _key(item, group)
        if waiting and (found != key or size >= GROUP):
            yield _joined(waiting)
            waiting, size = [], 0
        if isinstance(item, RawFault) or found is None:
            yield item
        else:
            waiting.append(item)
            key, size = found, size + len(item.data)
    if waiting:
        yield _joined(waiting)


def _key(row: RawRow, group: Callable[[object], str | None]) -> str | None:
    try:
        ((value, _),) = parse_row(row)
    except ValueError:
        return None
    return group(value)


def _joined(rows: list[RawRow]) -> RawRow:
    if len(rows) == 1:
        return rows[0]
    data = b"[" + b",".join(row.data for row in rows) + b"]"
    return RawRow(rows[0].line, rows[0].place, data, len(rows))


def _read_block(file: IO[bytes], size: int = 0) -> bytes:
    """The next piece of a file; empty only at its end.

    ``read1`` where there is one: ``read`` would lose what was unpacked before the place of a damage.
    """
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    return read(max(BLOCK, size))


def _sniff(file: IO[bytes]) -> Iterator[Piece]:
    """Tell an array from JSON lines by the first character that isn't white space."""
    head = b""
    while len(head) < len(BOM_UTF8) or not head.removeprefix(BOM_UTF8).strip():
        block = _read_block(file)
        if not block:
            break
        head += block
    head = head.removeprefix(BOM_UTF8)
    if not head.strip():
        yield RawFault(1, "empty file", "")
        return
    array = head.lstrip().startswith(b"[")
    while array and len(head) < FIRST_LINES and not _TWO_LINES.match(head):
        block = _read_block(file, len(head))
        if not block:
            break
        head += block
    yield from (_array if array and not _holds_lists(head[:FIRST_LINES]) else _lines)(head, file)


def _holds_lists(head: bytes) -> bool:
    """Whether a file that begins with a bracket holds a whole array on each line, as WebGPT's, and isn't one itself.

    Two lines are looked at, since one of them may be damaged.
    """
    lines = _TWO_LINES.match(head + b"\n")
    return lines is not None and lines[1].strip() != b"[" and (_is_list(lines[1]) or _is_list(lines[2]))


def _is_list(line: bytes) -> bool:
    try:
        return isinstance(_DECODER.decode(line.decode("utf-8", "surrogateescape").strip()), list)
    except (ValueError, RecursionError):
        return False


def _lines(head: bytes, file: IO[bytes]) -> Iterator[Piece]:
    line, rest = 0, head
    while True:
        *whole, rest = rest.split(b"\n")
        for data in whole:
            line += 1
            if stripped := data.strip():
                yield line, stripped
        # Twice as much each time, so that a huge line costs no more than reading it a few times.
        block = _read_block(file, len(rest))
        if not block:
            break
        rest += block
    if stripped := rest.strip():
        yield line + 1, stripped


def _array(head: bytes, file: IO[bytes]) -> Iterator[Piece]:
    """The elements of one JSON array, read block by block. After a damaged one the next is looked for."""
    text = head.decode("utf-8", "surrogateescape")
    place = text.index("[") + 1
    line = text.count("\n", 0, place) + 1
    ended = False
    first_opening = ""

    def read_more() -> None:
        nonlocal text, place, ended
        # A block may end inside a character. Its bytes became half characters, which are mended here.
        rest = text[place:].encode("utf-8", "surrogateescape")
        block = _read_block(file, len(rest))
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
            _, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            cut_off = _may_go_on(error, len(text))
            following = None if cut_off and not ended else _next_element(text, place, first_opening)
            if following is None and not ended:
                read_more()
                continue
            reason = "cut-off JSON" if cut_off and following is None else "not valid JSON"
            yield RawFault(line, reason, excerpt(text[place : place + EXCERPT]))
            if following is None:
                return
            line += text.count("\n", place, following)
            place = following
            continue
        if len(text) - end < LONGEST_TOKEN and not ended:
            read_more()  # a number may go on in the next block, even after "1." or "1e-"
            continue
        first_opening = first_opening or _opening(text, place)
        yield line, text[place:end].encode("utf-8", "surrogateescape")
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


def _opening(text: str, place: int) -> str:
    """An object's bracket and first key; empty where there is none."""
    match = _OPENING.match(text, place)
    return match.group() if match else ""


def _next_element(text: str, place: int, first_opening: str) -> int | None:
    """Where the element after a damaged one begins: at an object with its first key or the first element's.

    It must follow another's end. That tells the rows from the objects inside them, which have other keys.
    """
    openings = {first_opening, _opening(text, place)} - {""}
    if not openings:
        return None
    begins = "|".join(re.escape(opening) for opening in sorted(openings))
    following = re.compile(rf"\}}\s*,\s*(?={begins})").search(text, place + 1)
    return following.end() if following else None


def _parquet(file: IO[bytes]) -> Iterator[Piece]:
    """The rows of a Parquet file as JSON texts; where it is damaged, those before."""
    import pyarrow.parquet as pq

    number = 0
    try:
        # Not pre-buffered: that would hold all columns of a row group at once.
        table = pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True)
        for group in range(table.num_row_groups):  # one by one: a batch across two is lost if the second is damaged
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, row_groups=[group]):
                for value in _parquet_values(batch):
                    number += 1
                    yield _parquet_row(number, value)
        if number != table.metadata.num_rows:
            yield RawFault(number + 1, "damaged Parquet", f"{table.metadata.num_rows} rows are announced")
    except (pa.ArrowException, ValueError, OSError, RecursionError) as error:
        if not _is_damage(error):
            raise
        yield RawFault(number + 1, "damaged Parquet", excerpt(str(error)))


def _parquet_values(batch: pa.RecordBatch) -> list[object]:
    """The values of a batch's rows, or in place of one that Python can't hold the error that it gives."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:  # bytes that are not UTF-8, a date that Python doesn't have
        if batch.num_rows == 1:
            return [error]
        return [value for place in range(batch.num_rows) for value in _parquet_values(batch.slice(place, 1))]


def _parquet_row(number: int, value: object) -> Piece:
    if isinstance(value, Exception):
        reason = "not valid UTF-8" if isinstance(value, UnicodeDecodeError) else "not valid JSON"
        return RawFault(number, reason, excerpt(str(value)))
    return number, _ENCODER.encode(value).encode("utf-8", "surrogateescape")


def _json_value(value: object) -> str:
    """A value that Parquet has and JSON hasn't, as a text."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_json_value)
