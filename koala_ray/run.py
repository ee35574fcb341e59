"""The whole loop of a recipe: prepare, train, generate with the base and the tuned model, and a page of both."""

from __future__ import annotations

import time
from typing import Any

from koala_ray import storage
from koala_ray.compare.side_by_side import page
from koala_ray.generate.batch import generate, read_answers
from koala_ray.prepare import prepare
from koala_ray.progress import clock, say
from koala_ray.prompts import load_prompts
from koala_ray.recipe import SAMPLE_ROOT, Recipe
from koala_ray.train.step import CURVES, train

PAGE = "index.html"


def run(recipe: Recipe, out: str, prompts: str = "sample") -> dict[str, Any]:
    """Run a recipe's whole loop below ``out``; finished steps are skipped.

    Returns:
        The figures of each stage under its name, and the page's place.

    Raises:
        KoalaError: wrong input to any of the stages.
    """
    started = time.monotonic()
    # Before the work: a missing prompt set should cost nothing.
    data = None if recipe.data.root == SAMPLE_ROOT else recipe.data.root
    asked = load_prompts(prompts, recipe.generate.limit, data)
    tokens, prepared = prepare(recipe, out)
    trained, training = train(recipe, tokens, out)
    base, tuned = generate([recipe.model.base, training["model"]], [asked], recipe.generate, out)
    seconds = round(time.monotonic() - started, 1)
    uri = storage.join(storage.absolute(out), PAGE)
    figures = {
        "base model": recipe.model.base,
        "rows kept / in": f"{prepared['rows_kept']:,} / {prepared['rows_in']:,}",
        "tokens in an epoch": f"{prepared['tokens']:,} ({prepared['learnt_tokens']:,} learnt)",
        "packed rows": f"{prepared['packs']:,}, {100 * prepared['fill']:.1f} % full",
        "steps": f"{training['steps']:,}, {training['tokens_per_second']:,} tokens/s",
        "training loss": _change(training["loss_first"], training["loss_last"]),
        "held-out loss": _change(training["heldout_loss_first"], training["heldout_loss_last"]),
        "time": clock(seconds),
    }
    curve = storage.read_bytes(storage.join(trained.folder, CURVES))
    text = page(
        recipe.name, recipe.about, figures, curve, read_answers(base.step.folder), read_answers(tuned.step.folder)
    )
    storage.write_atomic(uri, text.encode())
    for name, place in (
        ("token shards", tokens.folder),
        ("tuned model", training["model"]),
        ("answers, base", base.step.folder),
        ("answers, tuned", tuned.step.folder),
        ("page", uri),
    ):
        say(f"{name:<15}{place}")
    return {
        "prepare": prepared,
        "train": training,
        "generate": {"base": base.figures, "tuned": tuned.figures},
        "page": uri,
        "seconds": seconds,
    }


def _change(first: float | None, last: float | None) -> str:
    return "not known" if first is None or last is None else f"{first:.3f} → {last:.3f}"
