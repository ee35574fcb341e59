"""The commands about results: what a run came to, or has come to so far, and answers for other programs."""

from __future__ import annotations

from typing import Any

import click

from koala_ray.cli.common import DEFAULT_OUT, point_to, reported


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    metavar="DIR|FILE",
    default=DEFAULT_OUT,
    show_default=True,
    help="Where curves.png and curves.html go; a file's name ending in .png or .html asks for that one alone.",
)
@reported
def curves(folders: tuple[str, ...], out: str) -> Any:
    """Draw runs over each other: losses, by source too, speed, waits, incidents, sampled answers.

    RUN is the folder or URI of a train step, finished or still running.

    \b
    koala-ray curves koala-out/train-0123456789ab
    koala-ray curves runs/train-* --out compared.html
    """
    from koala_ray import storage
    from koala_ray.train.curves import curves_page, curves_png, last_figures, name_runs, read_run

    places = name_runs(folders)
    runs = {name: read_run(place) for name, place in places.items()}
    target = storage.absolute(out)
    files: dict[str, str] = {}
    for kind, draw in (("png", curves_png), ("html", curves_page)):
        if not target.endswith((".png", ".html")):
            files[kind] = storage.join(target, f"curves.{kind}")
        elif target.endswith(kind):
            files[kind] = target
        else:
            continue
        drawn = draw(runs)
        storage.write_atomic(files[kind], drawn if isinstance(drawn, bytes) else drawn.encode())
    figures = [{"run": name, "folder": places[name], **last_figures(records)} for name, records in runs.items()]
    for run in figures:
        click.echo(_line(run))
    for place in files.values():
        click.echo(place, err=True)
    return {**files, "runs": figures}


def _line(run: dict[str, Any]) -> str:
    from koala_ray.pages import plural

    parts = [f"{run['run']}  {plural(run['steps'], 'step')}"]
    for name, key in (("loss", "loss"), ("held out", "heldout_loss")):
        if run[f"{key}_last"] is not None:
            parts.append(f"{name} {run[f'{key}_first']:.3f} → {run[f'{key}_last']:.3f}")
    if run["tokens_per_second"]:
        parts.append(f"{run['tokens_per_second']:,.0f} tokens/s")
    if run["incidents"]:
        parts.append(plural(run["incidents"], "incident"))
    return "  ".join(parts)


@click.command()
@click.argument("folders", metavar="ANSWERS...", nargs=-1, required=True)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["alpaca-eval", "fastchat", "jsonl", "parquet"]),
    required=True,
    help="What reads it.",
)
@click.option("--to", metavar="FILE|URI", default="", help="The file to write; by default its usual name, here.")
@click.option("--name", default="", help="The name that the file gives the model; by default its own.")
@reported
def export(folders: tuple[str, ...], kind: str, to: str, name: str) -> Any:
    """Write a model's answers into a file that other programs read.

    ANSWERS is the folder or URI of a generate step; several are put together.

    \b
    koala-ray export koala-out/generate-0123456789ab --as alpaca-eval
    koala-ray export koala-out/generate-* --as fastchat --name koala-smol --to s3://bucket/koala-smol.jsonl
    """
    from koala_ray.generate.exports import USUAL_NAMES, export_answers

    target = to or USUAL_NAMES[kind]
    count = export_answers(folders, kind, target, name)
    point_to(f"{count:,} answers", target)
    return {"file": target, "answers": count}
