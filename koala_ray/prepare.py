"""From raw files to token shards: curation, then tokens."""

from __future__ import annotations

import time
from typing import Any

from koala_ray import storage
from koala_ray.curate.step import curate, find_curated
from koala_ray.errors import KoalaError
from koala_ray.mixture import choose_sources
from koala_ray.models.resolve import check
from koala_ray.recipe import Recipe
from koala_ray.steps import MARKER, StepResult
from koala_ray.tokens.step import find_tokens, tokenize


def prepare(recipe: Recipe, out: str) -> tuple[StepResult, dict[str, Any]]:
    """Prepare a recipe's data below ``out``; finished steps are skipped.

    Returns:
        The token step, and the figures that ``koala-ray prepare --json`` prints: folder, content_hash, rows_in,
        rows_kept, rows_rejected, sources, tokens, learnt_tokens, packs (of one epoch), fill, seconds.

    Raises:
        KoalaError: the raw files aren't there, no dialogue is left, or ``out`` can't be written.
    """
    started = time.monotonic()
    check(recipe.model.base)  # before the work: a base model that isn't there should cost nothing
    recipe = recipe.model_copy(update={"data": choose_sources(recipe.data)})
    curated = curate(recipe, out)
    tokens = tokenize(recipe, curated, out)
    counts = tokens.manifest.counts
    named = (
        "rows_in",
        "rows_kept",
        "rows_rejected",
        "sources",
        "tokens",
        "learnt_tokens",
        "packs",
        "fill",
        "heldout",
    )
    return tokens, {
        "folder": tokens.folder,
        "content_hash": tokens.manifest.content_hash,
        **{name: counts[name] for name in named},
        "curated": curated.folder,
        "skipped": curated.skipped and tokens.skipped,
        "seconds": round(time.monotonic() - started, 2),
    }


def prepared(recipe: Recipe, out: str) -> StepResult | None:
    """The token step that :func:`prepare` would give, if it is there already; nothing is run.

    None also where its name can't be told, since the raw files or the base model's tokenizer can't be read: then
    :func:`prepare` says why.
    """
    # Raw files are read through for their checksums: not where there is nothing to be found.
    if not storage.list_files(out, [f"tokens-*/{MARKER}"]):
        return None
    try:
        recipe = recipe.model_copy(update={"data": choose_sources(recipe.data)})
        curated = find_curated(recipe, out)
        return find_tokens(recipe, curated, out) if curated else None
    except KoalaError:
        return None
