"""What the commands share: options, how figures and errors reach people and programs, running as a process."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from koala_ray.errors import KoalaError

DEFAULT_RECIPE = "koala-smol"
DEFAULT_OUT = "koala-out"
Command = Callable[..., Any]


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
    "--prompts", default="sample", show_default=True, help="Prompt sets, by commas: names, files, folders, URIs."
)


def listed(text: str) -> list[str]:
    """What stands between commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def models_option(command: Command) -> Command:
    """``--models A,B``, or ``--model A`` as often as there are models."""

    @click.option("--models", metavar="A,B", default="", help="The models to ask, by commas.")
    @click.option("--model", metavar="A", multiple=True, help="A model to ask; repeatable.")
    @wraps(command)
    def run(*args: Any, models: str, model: tuple[str, ...], **kwargs: Any) -> Any:
        names = tuple(dict.fromkeys([*listed(models), *model]))
        if not names:
            raise click.UsageError("which model? give --model NAME, or --models A,B")
        return command(*args, models=names, **kwargs)

    return run


def cost_options(command: Command) -> Command:
    """What the machines cost and how much may be spent: short for ``--set cost.price=… --set cost.budget=…``."""

    @click.option(
        "--price", metavar="DOLLARS", type=click.FloatRange(min=0), help="For an hour of one GPU (cost.price)."
    )
    @click.option(
        "--budget",
        metavar="DOLLARS",
        type=click.FloatRange(min=0),
        help="The run stops when they are spent (cost.budget).",
    )
    @wraps(command)
    def run(*args: Any, price: float | None, budget: float | None, sets: tuple[str, ...], **kwargs: Any) -> Any:
        given = {"price": price, "budget": budget}
        costs = tuple(f"cost.{name}={value}" for name, value in given.items() if value is not None)
        return command(*args, sets=sets + costs, **kwargs)

    return run


def point_to(text: str, place: str) -> None:
    """End a command with a line for people, and the place of what it made."""
    click.echo(f"{text}\n{place}", err=True)
