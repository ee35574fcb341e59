"""The command that serves models over HTTP."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from koala_ray.cli.common import DEFAULT_OUT, DEFAULT_RECIPE, models_option, point_to, reported, set_option


@click.command()
@models_option
@click.option("--recipe", "name", default=DEFAULT_RECIPE, show_default=True, help="Gives engine, replicas and `base`.")
@click.option("--out", metavar="DIR|URI", default=DEFAULT_OUT, show_default=True, help="Where trained runs are.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="The port.")
@click.option(
    "--keys", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with an API key in each line."
)
@click.option("--detach", is_flag=True, help="Return once the models are served; only on a cluster that stays.")
@set_option
@reported
def serve(
    models: tuple[str, ...],
    name: str,
    out: str,
    host: str,
    port: int,
    keys: Path | None,
    detach: bool,
    sets: tuple[str, ...],
) -> Any:
    """Serve models to any client that speaks OpenAI's protocol, until interrupted.

    Models as for `koala-ray generate`. Without --keys only this machine is served.

    \b
    koala-ray serve --models base,koala-smol
    koala-ray serve --model koala-out/train-0123456789ab --port 9000 --set generate.replicas=2
    curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": "base", "messages": [{"role": "user", "content": "Hi!"}]}'
    """
    from koala_ray.recipe_file import load_recipe
    from koala_ray.serve.run import serve_models, stop_serving

    recipe = load_recipe(name, sets)
    given = [line.strip() for line in keys.read_text().splitlines() if line.strip()] if keys else []
    url = serve_models(models, recipe.generate, out, recipe.model.base, host, port, given)
    point_to(f"serving {', '.join(models)}" + ("" if detach else "; Ctrl-C ends it"), url)
    if not detach:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        stop_serving()
    return {"url": url, "models": list(models)}
