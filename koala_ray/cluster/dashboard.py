"""What a Ray dashboard says over HTTP, without ray: its nodes, its jobs, and whether it asks for a token."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from koala_ray.cluster import token

_REQUEST_S = 5.0


def get(dashboard: str, path: str, headers: dict[str, str]) -> Any:
    """The JSON that a dashboard answers.

    Args:
        dashboard: its ``http://host:port``.
        path: the path and query behind it.
        headers: sent along, e.g. the token's.

    Raises:
        OSError: it doesn't answer; ``urllib.error.HTTPError`` when it answers with an error.
    """
    request = urllib.request.Request(dashboard + path, headers=headers)
    # Without proxies: one named in the environment can't reach our loopback, and would see the token.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_REQUEST_S) as response:
        return json.load(response)


def nodes(dashboard: str, token_file: str) -> list[dict[str, Any]]:
    """The cluster's nodes: id, ip, state, cpus, gpus.

    Args:
        dashboard: its ``http://host:port``.
        token_file: the file with the token; empty when RAY_AUTH_TOKEN holds it.
    """
    answer = get(dashboard, "/api/v0/nodes?detail=1", _headers(token_file))
    return [
        {
            "id": node["node_id"],
            "ip": node["node_ip"],
            "state": node["state"],
            "cpus": int(node["resources_total"].get("CPU", 0)),
            "gpus": int(node["resources_total"].get("GPU", 0)),
        }
        for node in answer["data"]["result"]["result"]
    ]


def jobs(dashboard: str, token_file: str) -> list[dict[str, Any]]:
    """The cluster's jobs, submitted or connected by themselves: id, status, entrypoint, seconds.

    Args:
        dashboard: its ``http://host:port``.
        token_file: the file with the token; empty when RAY_AUTH_TOKEN holds it.
    """
    now = time.time() * 1000
    return [
        {
            "id": job["submission_id"] or job["job_id"],
            "status": job["status"],
            "entrypoint": job["entrypoint"],
            "seconds": round(((job["end_time"] or now) - (job["start_time"] or now)) / 1000, 1),
        }
        for job in get(dashboard, "/api/jobs/", _headers(token_file))
    ]


def _headers(token_file: str) -> dict[str, str]:
    return token.auth_headers(Path(token_file) if token_file else None)
