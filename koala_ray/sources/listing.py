"""What ``koala-ray sources`` shows: each source, its licence, its published counts, its files, whom to cite."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

from koala_ray.sources.base import SUFFIXES, Source

WIDTH = 100


def sources_json(sources: Collection[Source]) -> dict[str, Any]:
    """The sources as one JSON object; ``reads`` are the globs below a data root by which a source's files are found."""
    return {
        "sources": {
            source.name: {
                "title": source.title,
                "licence": source.licence,
                "published": source.published,
                "published_rows": source.published_rows,
                "published_kept": source.published_kept,
                "files": [{"url": file.url, "name": file.name} for file in source.files],
                "reads": list(source.usual_names),
                "citation": source.citation,
                "home": source.home,
            }
            for source in sources
        }
    }


def sources_text(sources: Collection[Source], width: int = WIDTH) -> str:
    """The sources as a table for a terminal of so many columns, with what each is and whom to cite below it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("source", no_wrap=True)
    table.add_column("licence", max_width=24, overflow="fold")
    table.add_column("published", overflow="fold")
    table.add_column("to fetch", no_wrap=True, justify="right")
    cite = Table.grid("", "", padding=(0, 2, 0, 0))
    cite.columns[0].no_wrap = True
    cite.columns[1].overflow = "fold"
    for source in sources:
        files = f"{len(source.files)} files" if len(source.files) > 1 else "1 file" if source.files else "-"
        table.add_row(source.name, source.licence, source.published, files)
        cite.add_row(source.name, source.title)
        cite.add_row("", source.citation)
        if source.home:
            cite.add_row("", source.home)
    kinds = ", ".join(sorted({suffix.removesuffix(".gz").removesuffix(".zst") for suffix in SUFFIXES}))
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, emoji=False, markup=False)
    console.print(table)
    console.print(cite)
    console.print(
        "\nA source's files are found below the data root by their place and name: NAME*, NAME/**, sources/NAME* or"
        f" sources/NAME/**, ending in {kinds}; the JSON kinds also packed as .gz or .zst. Other places:"
        " --set 'data.sources.NAME=[\"my/*.jsonl\"]'"
    )
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
