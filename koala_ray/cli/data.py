"""The commands about data: which there is, fetching it, and what became of it."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import point_to, reported
from koala_ray.errors import KoalaError


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--rows", default=3, show_default=True, help="How many packed rows to show.")
@click.option("--first", default=0, show_default=True, help="The first row's global index.")
@click.option("--base", default="", help="Whose tokenizer to read with; the folder knows it by default.")
@reported
def preview(folder: str, rows: int, first: int, base: str) -> Any:
    """Show packed rows: learnt tokens in colour, dialogues under borders.

    \b
    koala-ray preview koala-out/tokens-0123456789ab --rows 1
    """
    from koala_ray.tokens.preview import preview as show

    return show(folder, rows, first, base)


@click.command()
@reported
def sources() -> Any:
    """List the sources that can be read: licence, published counts, files to fetch, whom to cite.

    \b
    koala-ray sources
    koala-ray sources --json | tail -n 1 | jq .sources.hc3.files
    """
    from koala_ray.sources.listing import sources_json, sources_text
    from koala_ray.sources.registry import SOURCES

    click.echo(sources_text(SOURCES.values()), nl=False)
    return sources_json(SOURCES.values())


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--to",
    metavar="DIR|URI",
    required=True,
    help="Where the files go: a source's into a folder of its name, prompt sets into prompts/.",
)
@reported
def fetch(names: tuple[str, ...], to: str) -> Any:
    """Download sources and prompt sets, checked. What is there and right stays; a broken download goes on.

    Sources: `koala-ray sources` lists them. Prompt sets: koala, self-instruct, vicuna, mt-bench, alpaca-180 (which is
    drawn from self-instruct). They are found with --data DIR, or with KOALA_DATA=DIR in the environment.

    \b
    koala-ray fetch hc3 alpaca --to raw
    koala-ray fetch koala self-instruct vicuna --to raw
    koala-ray fetch hh --to s3://bucket/raw
    """
    from koala_ray import storage
    from koala_ray.sources.fetch import fetch as run_fetch
    from koala_ray.sources.prompt_sets import PROMPT_SETS
    from koala_ray.sources.registry import SOURCES

    unknown = [name for name in names if name not in SOURCES and name not in PROMPT_SETS]
    if unknown:
        raise KoalaError(
            f"there is no source {', '.join(unknown)}, nor a prompt set of this name",
            where="koala-ray fetch",
            mend=f"choose among {', '.join(SOURCES)} (`koala-ray sources` describes them) and the prompt sets "
            f"{', '.join(PROMPT_SETS)}",
        )
    fetched = {name: run_fetch(SOURCES.get(name) or PROMPT_SETS[name], to) for name in names}
    point_to(f"{sum(figures['bytes'] for figures in fetched.values()):,} bytes fetched", storage.absolute(to))
    return {
        "folder": storage.absolute(to),
        "sources": {name: figures for name, figures in fetched.items() if name in SOURCES},
        "prompts": {name: figures for name, figures in fetched.items() if name in PROMPT_SETS},
    }


@click.command()
@click.argument("folder", metavar="DIR")
@reported
def ledger(folder: str) -> Any:
    """Show what became of every row: by source, filter and reason, beside the published counts.

    DIR is the folder of a curate or tokens step; ledger.html there shows the same in figures.

    \b
    koala-ray ledger koala-out/tokens-0123456789ab
    """
    from koala_ray import storage
    from koala_ray.curate.ledger import PAGE, read_ledger
    from koala_ray.curate.ledger_table import table

    found = read_ledger(folder)
    click.echo(table(found))
    click.echo(storage.join(storage.absolute(folder), PAGE), err=True)
    return found


@click.command("sample-data")
@click.option("--to", "folder", metavar="DIR", required=True, help="Where the raw files go.")
@reported
def sample_data(folder: str) -> Any:
    """Write the sample corpus: a few hundred rows in the seven sources' raw layouts.

    \b
    koala-ray sample-data --to raw
    """
    from koala_ray import storage
    from koala_ray.samples import write_samples

    with storage.refuse_unwritable(folder):
        written = write_samples(folder)
    click.echo(f"written to {folder}", err=True)
    return {"folder": storage.absolute(folder), "sources": written}
