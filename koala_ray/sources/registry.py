"""The sources that can be read, and the one way to read a raw file of any of them."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import SAMPLE_ROOT, SOURCE_NAMES, DataSettings
from koala_ray.records import Example, Rejected
from koala_ray.sources import alpaca, hc3, sharegpt
from koala_ray.sources.base import Dialogue, RowRejected, Source, check_text
from koala_ray.sources.raw import EXCERPT, RawFault, read_rows

SOURCES: dict[str, Source] = {source.name: source for source in (sharegpt.SOURCE, hc3.SOURCE, alpaca.SOURCE)}


def find_files(data: DataSettings) -> dict[str, list[storage.StoredFile]]:
    """The raw files of each source that a recipe asks for, in order.

    Raises:
        KoalaError: the root isn't there, a source has no reader, or a glob that was asked for matches nothing.
    """
    root = sample_root() if data.root == SAMPLE_ROOT else data.root
    if not storage.exists(root):
        raise KoalaError("the data folder is not there", where=root, mend="give a folder or URI with --data")
    unread = [name for name in data.sources if name not in SOURCES]
    if unread:
        raise KoalaError(
            f"there is no reader yet for {', '.join(unread)}",
            where="data.sources",
            mend=f"choose among {', '.join(SOURCES)}",
        )
    if not data.sources:
        found = {name: storage.list_files(root, source.usual_names) for name, source in SOURCES.items()}
        found = {name: files for name, files in found.items() if files}
        if not found:
            usual = ", ".join(pattern for source in SOURCES.values() for pattern in source.usual_names)
            raise KoalaError(
                "no raw file of any source was found",
                where=root,
                mend=f"name the files ({usual}) or say where they are: --set 'data.sources.hc3=[\"my/*.jsonl\"]'",
            )
        return found
    wanted: dict[str, list[storage.StoredFile]] = {}
    for name in SOURCE_NAMES:
        if name in data.sources:
            wanted[name] = storage.list_files(root, data.sources[name])
            if not wanted[name]:
                raise KoalaError(
                    f"no file matches {', '.join(data.sources[name])}",
                    where=f"data.sources.{name} below {root}",
                    mend="globs are relative to data.root: * stays within a folder, ** goes across",
                )
    return wanted


def sample_root() -> str:
    """The folder of the sample corpus, written on first use."""
    from koala_ray.home import cached_folder
    from koala_ray.samples import samples_hash, write_samples

    return str(cached_folder(f"sample-corpus-{samples_hash()[:12]}", write_samples))


def read_examples(source_name: str, uri: str, relative: str) -> Iterator[Example | Rejected]:
    """All that a raw file of a source holds: examples, and in place of each unusable row why it is one."""
    source = SOURCES[source_name]
    line, on_line = 0, 0
    for item in read_rows(uri):
        # An array may stand on one line: rows are told apart by their place on it.
        line, on_line = item.line, on_line + 1 if item.line == line else 1
        if isinstance(item, RawFault):
            yield Rejected(source_name, relative, item.line, item.reason, item.excerpt)
            continue
        origin = f"{source_name}/{relative}#{line}" + (f".{on_line}" if on_line > 1 else "")
        try:
            for side, found in source.parse(item.value):
                checked = _checked(found)
                if isinstance(checked, RowRejected):
                    yield Rejected(source_name, relative, item.line, checked.reason, _excerpt(item.value))
                    continue
                id_ = f"{origin}/{side}" if side else origin
                yield Example(id_, source_name, checked, pair=origin, file=relative, line=item.line)
        except RowRejected as rejected:
            yield Rejected(source_name, relative, item.line, rejected.reason, _excerpt(item.value))


def _checked(found: Dialogue | RowRejected) -> Dialogue | RowRejected:
    """One side of a row, or why it can't be learnt from; the row's other sides don't suffer for it."""
    try:
        if not isinstance(found, RowRejected):
            check_text(found)
    except RowRejected as rejected:
        return rejected
    return found


def _excerpt(value: object) -> str:
    return repr(value)[:EXCERPT].encode("utf-8", "replace").decode()
