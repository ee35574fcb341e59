"""Where a machine hears that it will be taken away: the clouds' metadata services, and a file.

AWS: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html (two minutes' notice).
GCP: https://cloud.google.com/compute/docs/instances/create-use-preemptible (30 seconds', by ACPI and by metadata).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

HTTP_SECONDS = 2.0
AWS_TOKEN_SECONDS = 21_600
GCP_PREEMPTION_SECONDS = 25.0
"""GCP gives 30 s; some have passed when it is heard of."""
GCP_MAINTENANCE_SECONDS = 55.0
"""Machines that can't move (those with GPUs) are ended at maintenance; at least a minute ahead it is told."""


@dataclass(frozen=True)
class Notice:
    """A machine will be taken away."""

    text: str
    """Who said so, and what."""
    deadline: float
    """When, in seconds since 1970."""


class Source(Protocol):
    """Something that can be asked."""

    name: str

    def look(self) -> Notice | None:
        """The notice, if there is one.

        Raises:
            OSError: it can't be asked now.
        """


@dataclass
class Aws:
    """EC2's metadata service, version 2. ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` names another address of it."""

    warn: Callable[[str], None] = lambda text: None
    """Told of a rebalance recommendation: the machine may be taken away, and may not."""
    name: str = "aws"
    _token: str = ""
    _token_until: float = 0.0
    _warned: bool = False

    def look(self) -> Notice | None:
        """The spot instance's interruption notice."""
        found = self._get("spot/instance-action")
        if found is not None:
            action = json.loads(found)
            until = datetime.fromisoformat(action["time"].replace("Z", "+00:00")).timestamp()
            return Notice(f"AWS will {action['action']} this machine at {action['time']}", until)
        if not self._warned and (advice := self._get("events/recommendations/rebalance")) is not None:
            self._warned = True
            self.warn(f"AWS recommends to leave this machine (since {json.loads(advice)['noticeTime']})")
        return None

    def _get(self, path: str) -> str | None:
        base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
        if time.monotonic() > self._token_until:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_SECONDS)}
            self._token = http(f"{base}/latest/api/token", asked, method="PUT") or ""
            self._token_until = time.monotonic() + AWS_TOKEN_SECONDS / 2
        try:
            return http(f"{base}/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})
        except HTTPError as error:
            if error.code == 401:
                self._token_until = 0.0
            raise


@dataclass
class Gcp:
    """Compute Engine's metadata server. ``GCE_METADATA_HOST`` names another address of it."""

    name: str = "gcp"

    def look(self) -> Notice | None:
        """The preemption or the maintenance that ends the machine."""
        if self._get("preempted") == "TRUE":
            return Notice("GCP preempts this machine", time.time() + GCP_PREEMPTION_SECONDS)
        if self._get("maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE":
            return Notice("GCP ends this machine for maintenance", time.time() + GCP_MAINTENANCE_SECONDS)
        return None

    def _get(self, path: str) -> str | None:
        host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
        found = http(f"http://{host}/computeMetadata/v1/instance/{path}", {"Metadata-Flavor": "Google"})
        return found.strip() if found else None


@dataclass
class NoticeFile:
    """A file that appears: its first line is the seconds that are left. For other clouds' hooks, drills and tests."""

    path: Path
    name: str = field(default="file")

    def look(self) -> Notice | None:
        """The notice in the file."""
        try:
            text = self.path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        try:
            seconds = float(text.splitlines()[0])
        except (ValueError, IndexError):
            seconds = 0.0  # whatever stands there, somebody wants the machine
        return Notice(f"{self.path} appeared", time.time() + seconds)


def http(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """A metadata service's answer; None where it has none (404).

    Raises:
        OSError: it can't be reached, or answers otherwise.
    """
    opener = build_opener(ProxyHandler({}))  # metadata is on this machine's own link, never behind a proxy
    try:
        with opener.open(Request(url, headers=headers, method=method), timeout=HTTP_SECONDS) as answer:
            body: bytes = answer.read()
            return body.decode()
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


def detect(warn: Callable[[str], None] = lambda text: None) -> Source | None:
    """The cloud that this machine runs in, by whose metadata service answers; None if neither does."""
    candidates: tuple[Source, ...] = (Aws(warn), Gcp())
    for source in candidates:
        try:
            source.look()
        except OSError:
            continue
        return source
    return None
