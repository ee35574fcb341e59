"""The command line. Each command imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from koala_ray import __version__
from koala_ray.errors import KoalaError

DEFAULT_RECIPE = "koala-smol"
DEFAULT_OUT = "koala-out"
Command = Callable[..., Any]


def main() -> None:
    """The ``koala-ray`` command."""
    main_of(cli)


def main_of(command: click.Command) -> None:
    """Run a command as a process: libraries are told to be quiet before any of them is imported."""
    from koala_ray.quiet import set_switches

    set_switches()
    try:
        command(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "koala-ray"
        _report(KoalaError(error.format_message(), where=path, mend=f"see `{path} --help`"), "--json" in sys.argv)
        sys.exit(2)


def reported(command: Command) -> Command:
    """Run a command so that its figures and its errors reach people and programs alike.

    The command returns its figures. With ``--json`` they are one object on the last line of stdout. Wrong input
    ends with 2 and says in two lines what, where and how to mend it; a failure ends with 1.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line of stdout.")
    @wraps(command)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        try:
            figures = command(*args, **kwargs)
        except KoalaError as error:
            _report(error, as_json)
            sys.exit(2)
        except click.exceptions.Exit:
            raise
        except KeyboardInterrupt:
            click.echo("interrupted: run the command again to go on from the last finished step", err=True)
            sys.exit(1)
        except Exception as error:
            from koala_ray.quiet import log_file

            path = log_file()
            with open(path, "a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            mend = "if it isn't clear from this, read the traceback; a rerun goes on from the last finished step"
            _report(KoalaError(str(error) or type(error).__name__, where=f"traceback in {path}", mend=mend), as_json)
            sys.exit(1)
        if as_json:
            click.echo(json.dumps(figures, ensure_ascii=False))

    return run


def _report(error: KoalaError, as_json: bool) -> None:
    click.echo(f"error: {error}", err=True)
    if as_json:
        click.echo(json.dumps(error.as_json(), ensure_ascii=False))


def recipe_options(command: Command) -> Command:
    """The options that every stage takes."""
    options = (
        click.option("--data", metavar="DIR|URI", help="The raw files' folder or URI (data.root)."),
        click.option("--out", metavar="DIR|URI", default=DEFAULT_OUT, show_default=True, help="Where results go."),
        set_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


set_option = click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Override a setting; repeatable.")
prompts_option = click.option(
    "--prompts", default="sample", show_default=True, help="A prompt set's name, or a JSON-lines file."
)
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="koala-ray")
def cli() -> None:
    """From public dialogue data to a fine-tuned, evaluated dialogue model, on Ray.

    \b
    koala-ray run koala-smol                       the whole loop on this machine's CPU
    koala-ray prepare koala-smol --data s3://b/raw --out s3://b/koala
    koala-ray train koala-smol --set train.lr=1e-5 --set train.max_steps=100
    koala-ray recipe show koala-all-13b            all settings of a recipe
    """


@cli.group()
def recipe() -> None:
    """List recipes, or print one with all its settings."""


@recipe.command("list")
@reported
def recipe_list() -> Any:
    """List the recipes that come with the package."""
    from koala_ray.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    for item in recipes:
        click.echo(f"{item.name:<20}{item.about}")
    return {"recipes": {item.name: item.about for item in recipes}}


@recipe.command("show")
@click.argument("name", default=DEFAULT_RECIPE)
@click.option("--data", metavar="DIR|URI", help="The raw files' folder or URI (data.root).")
@set_option
@reported
def recipe_show(name: str, data: str | None, sets: tuple[str, ...]) -> Any:
    """Print a recipe as YAML, every default filled in and every override applied.

    \b
    koala-ray recipe show koala-smol --set train.lr=1e-5
    """
    from koala_ray.recipe import load_recipe

    resolved = load_recipe(name, sets, data)
    click.echo(resolved.to_yaml(), nl=False)
    return resolved.model_dump(mode="json")


@cli.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@recipe_options
@reported
def prepare(name: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """Raw files → curated examples → packed token shards.

    \b
    koala-ray prepare koala-smol
    koala-ray prepare koala-smol --data ~/raw --set 'data.sources.hc3=["hc3/*.jsonl"]'
    """
    from koala_ray.prepare import prepare as run_prepare
    from koala_ray.recipe import load_recipe

    _, figures = run_prepare(load_recipe(name, sets, data), out)
    _line(
        f"{figures['rows_kept']:,} of {figures['rows_in']:,} rows kept, {figures['tokens']:,} tokens"
        f" ({figures['learnt_tokens']:,} learnt) in {figures['packs']:,} packed rows,"
        f" {100 * figures['fill']:.1f} % full",
        figures["folder"],
    )
    return figures


@cli.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@recipe_options
@reported
def train(name: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """Train on the packed rows; prepares them first if that isn't done. An interrupted run goes on.

    \b
    koala-ray train koala-smol
    koala-ray train tiny --set train.workers=2 --set train.zero_stage=2
    """
    from koala_ray.prepare import prepare as run_prepare
    from koala_ray.recipe import load_recipe
    from koala_ray.train.step import train as run_train

    resolved = load_recipe(name, sets, data)
    tokens, _ = run_prepare(resolved, out)
    _, figures = run_train(resolved, tokens, out)
    _line(f"{figures['steps']:,} steps", figures["model"])
    return figures


@cli.command()
@click.option("--model", required=True, help="A base model's name, a Hugging Face id, a folder or a URI.")
@prompts_option
@click.option("--recipe", "name", default=DEFAULT_RECIPE, show_default=True, help="Gives the sampling settings.")
@recipe_options
@reported
def generate(model: str, prompts: str, name: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """Answer a stored prompt set with a model, in Koala's template.

    Prompt sets by name: sample; and, below --data or $KOALA_DATA, koala, self-instruct, vicuna.

    \b
    koala-ray generate --model smollm2-135m --prompts sample
    koala-ray generate --model koala-out/train-0123456789ab --prompts my.jsonl --set generate.max_tokens=64
    """
    from koala_ray.generate.step import generate as run_generate
    from koala_ray.prompts import load_prompts
    from koala_ray.recipe import load_recipe

    settings = load_recipe(name, sets).generate
    _, figures = run_generate(model, load_prompts(prompts, settings.limit, data), settings, out)
    _line(f"{figures['answered']:,} of {figures['asked']:,} prompts answered", figures["folder"])
    return figures


@cli.command()
@click.argument("name", metavar="RECIPE", default=DEFAULT_RECIPE)
@prompts_option
@recipe_options
@reported
def run(name: str, prompts: str, data: str | None, out: str, sets: tuple[str, ...]) -> Any:
    """The whole loop: prepare, train, answer with the base and the tuned model, and a page of both.

    \b
    koala-ray run koala-smol
    koala-ray run tiny --set train.max_steps=20 --out /tmp/tiny
    """
    from koala_ray.recipe import load_recipe
    from koala_ray.run import run as run_all

    return run_all(load_recipe(name, sets, data), out, prompts)


@cli.command()
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


@cli.command("sources")
@reported
def list_sources() -> Any:
    """List the sources that can be read: licence, published counts, files to fetch, whom to cite.

    \b
    koala-ray sources
    koala-ray sources --json | tail -n 1 | jq .sources.hc3.files
    """
    from koala_ray.sources.listing import sources_json, sources_text
    from koala_ray.sources.registry import SOURCES

    click.echo(sources_text(SOURCES.values()), nl=False)
    return sources_json(SOURCES.values())


@cli.command()
@click.argument("names", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--to", metavar="DIR|URI", required=True, help="Where the raw files go, each source's in its own folder.")
@reported
def fetch(names: tuple[str, ...], to: str) -> Any:
    """Download sources' public files, checked. What is there and right stays; a broken download goes on.

    \b
    koala-ray fetch hc3 alpaca --to raw
    koala-ray fetch hh --to s3://bucket/raw
    """
    from koala_ray import storage
    from koala_ray.sources.fetch import fetch as run_fetch
    from koala_ray.sources.registry import SOURCES

    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise KoalaError(
            f"there is no source {', '.join(unknown)}",
            where="koala-ray fetch",
            mend=f"choose among {', '.join(SOURCES)}; `koala-ray sources` describes them",
        )
    fetched = {name: run_fetch(SOURCES[name], to) for name in names}
    _line(f"{sum(figures['bytes'] for figures in fetched.values()):,} bytes fetched", storage.absolute(to))
    return {"folder": storage.absolute(to), "sources": fetched}


@cli.command()
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


@cli.group()
def cluster() -> None:
    """A Ray cluster on this machine: token authentication, nothing listening beyond loopback."""


@cluster.command("up")
@click.option("--cpus", type=int, help="CPUs that Ray may give away; all of this machine's by default.")
@reported
def cluster_up(cpus: int | None) -> Any:
    """Start a local cluster and print the lines that join a shell to it.

    \b
    eval "$(koala-ray cluster up)"
    ray job submit jobs/train.py
    """
    from koala_ray.cluster.local import exports, up

    started = up(cpus=cpus)
    for note in started.notes:
        click.echo(f"note: {note}", err=True)
    state = "is already up" if started.already_up else "is up"
    click.echo(f"# Ray {state} at {started.address}, dashboard {started.dashboard}; in your shell:")
    for line in exports(started):
        click.echo(line)
    return {"address": started.address, "dashboard": started.dashboard, "exports": exports(started)}


@cluster.command("status")
@reported
def cluster_status() -> Any:
    """Show the local cluster's nodes and jobs."""
    from koala_ray.cluster.local import status

    found = status()
    click.echo(f"{found['address']}  dashboard {found['dashboard']}  ${found['dollars_per_hour']:.2f} an hour")
    for node in found["nodes"]:
        click.echo(f"node {node['id'][:12]}  {node['state']}  {node['cpus']:g} CPUs  {node['gpus']:g} GPUs")
    for job in found["jobs"]:
        click.echo(f"job  {job['id']}  {job['status']}  {job['seconds']:.0f} s  {job['entrypoint']}")
    return found


@cluster.command("down")
@reported
def cluster_down() -> Any:
    """End the local cluster that `up` started, and nothing else."""
    from koala_ray.cluster.local import down

    ended = down()
    click.echo(f"ended {ended['ended']} processes" if ended["ended"] else "no local cluster was running")
    return ended


@cli.command("sample-data")
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


def _line(text: str, place: str) -> None:
    click.echo(f"{text}\n{place}", err=True)
