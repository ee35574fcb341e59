"""Serving models: the application of HTTP side and replicas, on a cluster or this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.generate.app import QUIET, deployment
from koala_ray.generate.model import AskedModel, open_model
from koala_ray.progress import say
from koala_ray.quiet import send_logs_to_file
from koala_ray.recipe import GenerateSettings
from koala_ray.session import check_resources, connect

APP = "koala"
QUEUED = 256
"""Requests that may wait at each replica, and as many before them; the next ones are told to come again."""
OPEN = 4096
"""Requests that the HTTP side holds at a time."""
ANSWER_SECONDS = 10.0
DRAIN_SECONDS = 60.0
"""For which a replica whose machine is to go, or that is too many, finishes what it has."""


def serve_models(
    names: Sequence[str], settings: GenerateSettings, out: str, base: str, host: str, port: int, keys: Sequence[str]
) -> str:
    """Start serving models, and return where; they are served until Ray ends or the application is deleted.

    Args:
        names: each as :func:`koala_ray.generate.model.open_model` takes it; clients name the models so.
        settings: engine, replicas, and what each has.
        out: the folder or URI with the train steps.
        base: the model that ``base`` stands for.
        host: the address to listen at.
        port: the port.
        keys: one of which each request must bear; none asks for no key.

    Returns:
        The base URL for clients, with ``/v1``.

    Raises:
        KoalaError: there is no such model, the cluster can't hold the replicas, or anybody could ask without a key.
    """
    if not keys and not _is_loopback(host):
        raise KoalaError(
            f"anybody who reaches {host} could ask without a key",
            where="--host",
            mend="give --keys FILE with a key in each line, or stay at 127.0.0.1",
        )
    models = {_title(name): open_model(name, out, base) for name in names}
    ray = connect()
    count = len(models) * (settings.min_replicas or settings.replicas)
    check_resources(ray, count, settings.cpus, settings.gpus, "generate")
    from ray import serve

    from koala_ray.serve.api import Api

    send_logs_to_file()
    serve.start(http_options={"host": host, "port": port}, logging_config=QUIET)
    send_logs_to_file()
    handles: dict[str, Any] = {
        f"model{place}": deployment(model.place, settings, f"model{place}", QUEUED, DRAIN_SECONDS)
        for place, model in enumerate(models.values())
    }
    cards = {name: _card(model) for name, model in models.items()}
    ingress = Api.options(  # type: ignore[attr-defined]
        max_ongoing_requests=OPEN, ray_actor_options={"num_cpus": 0}, logging_config=QUIET
    )
    say(f"serve     loading {', '.join(models)}")
    try:
        serve.run(ingress.bind(cards, list(keys), **handles), name=APP, route_prefix="/")
    except RuntimeError as error:  # what Serve raises has no type of its own
        raise KoalaError(
            f"the models can't be served: {' '.join(str(error).split())[-500:]}",
            where=", ".join(models),
            mend="read the replicas' logs (`serve status`, the Ray dashboard); is there memory for the models?",
        ) from error
    _require_answer(host, port)
    return f"http://{host}:{port}/v1"


def _require_answer(host: str, port: int) -> None:
    """Serve takes host and port only when it starts: see that it has these."""
    import requests

    try:
        answers = requests.get(f"http://{host}:{port}/health", timeout=ANSWER_SECONDS).ok
    except requests.RequestException:
        answers = False
    if not answers:
        stop_serving()
        raise KoalaError(
            "Ray Serve runs already on this cluster and listens elsewhere, or the port is taken",
            where=f"{host}:{port}",
            mend="give the host and port that it has, or end it: `serve shutdown`",
        )


def stop_serving() -> None:
    """End what :func:`serve_models` started."""
    from ray import serve

    serve.delete(APP, _blocking=True)


def _title(name: str) -> str:
    """The name that clients use: a path's last part."""
    return name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) or "://" in name else name


def _card(model: AskedModel) -> dict[str, Any]:
    return {"root": model.name, "model_hash": model.hash, "checkpoint_step": model.step}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
