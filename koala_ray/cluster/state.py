"""What is remembered of the local cluster between commands: one JSON file in the state folder."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koala_ray.errors import KoalaError
from koala_ray.home import private_folder


@dataclass(frozen=True)
class LocalCluster:
    """One started local cluster, as recorded in the state folder."""

    address: str
    dashboard: str
    pid: int
    created: float  # the head's creation time: with the pid it names one process for good
    started: str
    log: str
    cpus: int
    session: str  # holds Ray's folder of sockets, spilled objects and logs; gone after `down`
    mark: str  # in the environment of every process of the cluster
    token: str  # the token file; empty when the token came in RAY_AUTH_TOKEN
    notes: tuple[str, ...] = ()
    already_up: bool = False


def cluster_folder() -> Path:
    """The folder of the state file, Ray's log and the logs of the cluster before; made when missing."""
    return private_folder("cluster")


def state_file() -> Path:
    """The file that records the running local cluster."""
    return cluster_folder() / "local.json"


def read_state() -> LocalCluster | None:
    """The recorded cluster, whether it still runs or not; None when none is recorded.

    Raises:
        KoalaError: the file can't be understood.
    """
    try:
        fields = json.loads(state_file().read_text(encoding="utf-8"))
        return LocalCluster(**{**fields, "notes": tuple(fields["notes"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise KoalaError(
            "the record of the local cluster is damaged",
            where=str(state_file()),
            mend="end the ray processes by hand if any run, and delete this file",
        ) from error


def write_state(cluster: LocalCluster) -> None:
    """Records a cluster; a reader sees the old record or the new one, never a part.

    Args:
        cluster: what to record.
    """
    draft = state_file().with_suffix(".json.new")
    draft.write_text(json.dumps(dataclasses.asdict(cluster), indent=2) + "\n", encoding="utf-8")
    draft.replace(state_file())


@contextmanager
def locked() -> Iterator[None]:
    """Lets one command at a time start or end the local cluster; others wait."""
    with (cluster_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
