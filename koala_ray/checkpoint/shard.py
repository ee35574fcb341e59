"""A shard's file: three flat float32 tensors, the weights' slices end to end and AdamW's two moments', as safetensors.

Written here rather than by the safetensors package, which writes to local files alone; read by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch

from koala_ray import storage
from koala_ray.checkpoint.manifest import StoredShard
from koala_ray.checkpoint.slices import KINDS, Kind, Slice
from koala_ray.faults import is_remote

CHUNK = 1 << 24
"""Bytes that are hashed and written at a time."""


class DamagedShard(Exception):
    """A shard isn't what was written."""


def write_shard(uri: str, name: str, values: torch.Tensor, slices: Sequence[Slice]) -> StoredShard:
    """Write a shard into a checkpoint's folder.

    Args:
        uri: the checkpoint's folder.
        name: the file's name.
        values: (3, elements), float32 on the CPU, a row for each of :data:`KINDS`.
        slices: what the elements are.
    """
    count = values.shape[1]
    header = {
        kind: {"dtype": "F32", "shape": [count], "data_offsets": [4 * count * place, 4 * count * (place + 1)]}
        for place, kind in enumerate(KINDS)
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns its data
    with storage.open_write(storage.join(uri, name)) as file:
        sink = _Hashed(file)
        sink.write(len(text).to_bytes(8, "little") + text)
        for row in values:
            sink.write(memoryview(row.numpy()).cast("B"))
    return StoredShard(name, sink.size, sink.sha256(), [(one.name, one.start, one.numel) for one in slices])


def write_file(uri: str, name: str, data: bytes) -> StoredShard:
    """Write another file into a checkpoint's folder."""
    storage.write_atomic(storage.join(uri, name), data)
    return StoredShard(name, len(data), hashlib.sha256(data).hexdigest(), [])


class _Hashed:
    """A file that is written in pieces and remembers their size and sha256."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            piece = view[start : start + CHUNK]
            self._digest.update(piece)
            self._file.write(piece)
            self.size += len(piece)

    def sha256(self) -> str:
        return self._digest.hexdigest()


def fetch(uri: str, shard: StoredShard, folder: Path) -> Path:
    """A shard as a local file that is what was written: itself if it lies on this machine, else a copy.

    Args:
        uri: the checkpoint's folder.
        shard: what was written.
        folder: where a copy goes.

    Raises:
        DamagedShard: it is missing, or its bytes are others.
    """
    source = storage.join(uri, shard.file)
    path = folder / shard.file if is_remote(source) else Path(source)
    try:
        if is_remote(source):
            with storage.open_read(source) as file, path.open("wb") as copy:
                sink = _Hashed(copy)
                while piece := file.read(CHUNK):
                    sink.write(piece)
            found = sink.sha256()
        else:
            found = storage.sha256(source)
    except FileNotFoundError as error:
        raise DamagedShard(f"{shard.file} is missing") from error
    if found != shard.sha256:
        raise DamagedShard(f"{shard.file} has another sha256 than when it was written")
    return path


class ShardReader:
    """Elements of weights and moments from a checkpoint's shards, by their places in the weights."""

    def __init__(self, shards: Sequence[StoredShard], files: dict[str, Path]) -> None:
        from safetensors import safe_open

        opened = {name: safe_open(str(path), "pt") for name, path in files.items()}
        self._tensors = {(name, kind): file.get_slice(kind) for name, file in opened.items() for kind in KINDS}
        self._places: dict[str, list[tuple[int, int, str, int]]] = {}
        for shard in shards:
            place = 0
            for weight, start, numel in shard.slices:
                self._places.setdefault(weight, []).append((start, numel, shard.file, place))
                place += numel

    def read(self, kind: Kind, weight: str, start: int, count: int) -> torch.Tensor:
        """Elements [start, start + count) of a flattened weight or of one of its moments.

        Raises:
            KeyError: they are in a shard that wasn't fetched, or in none.
        """
        found = torch.empty(count)
        missing = count
        for first, numel, file, place in self._places[weight]:
            begin, end = max(first, start), min(first + numel, start + count)
            if begin < end:
                piece = self._tensors[file, kind][place + begin - first : place + end - first]
                found[begin - start : end - start] = piece
                missing -= end - begin
        if missing:
            raise KeyError(f"{missing} elements of {weight}")
        return found


def needed(shards: Sequence[StoredShard], slices: Sequence[Slice]) -> list[StoredShard]:
    """The shards that hold an element of some slices."""
    wanted: dict[str, list[Slice]] = {}
    for one in slices:
        wanted.setdefault(one.name, []).append(one)
    return [
        shard
        for shard in shards
        if any(
            max(start, one.start) < min(start + numel, one.start + one.numel)
            for name, start, numel in shard.slices
            for one in wanted.get(name, ())
        )
    ]
