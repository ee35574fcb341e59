"""The one folder for everything that koala-ray keeps between commands: tokens, cluster state, caches."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOME_VARIABLE = "KOALA_RAY_HOME"


def state_folder() -> Path:
    """The folder of kept state: ``$KOALA_RAY_HOME``, or ``~/.cache/koala-ray``.

    It is not created here; `private_folder` creates it.
    """
    named = os.environ.get(HOME_VARIABLE, "").strip()
    folder = Path(named) if named else Path("~/.cache/koala-ray")
    return folder.expanduser().absolute()


def private_folder(*parts: str, below: Path | None = None) -> Path:
    """A folder under the state folder, created with mode 0700 on every level that was missing.

    Args:
        parts: the names below the state folder; none for the state folder itself.
        below: start from this folder instead.
    """
    folder = below or state_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for part in parts:
        # One by one: with `parents=True` only the last level would get the mode.
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def cached_folder(name: str, build: Callable[[Path], object]) -> Path:
    """A folder below the state folder that is built once, by the first process that needs it.

    Args:
        name: its path below the state folder; it should change when the content would.
        build: fills the folder that it is given.
    """
    folder = state_folder() / name
    done = folder / ".complete"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            # The operating system lets go of the lock when its holder dies.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                build(folder)
                done.touch()
    return folder


@contextmanager
def built_beside(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of another when the block ends: nobody finds that one half filled."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed process left
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
