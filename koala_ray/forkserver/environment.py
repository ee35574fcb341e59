"""Tells Ray to start a job's workers through the fork server."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

SWITCH = "KOALA_RAY_FORKS"
"""Set to 0: each worker imports for itself, as Ray does without us."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells a submitted job's driver of its runtime environment."""
LAUNCHER = Path(__file__).with_name("launch.py")
SERVER = LAUNCHER.with_name("server.py")
# A node where neither this interpreter nor this package lie in the same place goes on with the interpreter that its
# raylet was told, as if nothing had been asked for.
USUAL = r"""tr "\0" "\n" </proc/$PPID/cmdline | sed -n "s/^--python_worker_command=\([^ ]*\).*/\1/p" """


def runtime_environment(python: str = sys.executable, launcher: Path = LAUNCHER) -> dict[str, Any]:
    """What goes into ``ray.init(runtime_env=…)``; empty if it is switched off or the job has its own interpreter."""
    own = "py_executable" in os.environ.get(JOB, "") or "RAY_RUNTIME_ENV_HOOK" in os.environ
    if own or os.environ.get(SWITCH) == "0" or not sys.platform.startswith("linux"):
        return {}
    interpreter, program = shlex.quote(python), shlex.quote(str(launcher))
    here = f'[ -x {interpreter} ] && [ -f {program} ] && exec {interpreter} -S -E {program} "$@"'
    elsewhere = f'exec "$({USUAL})" "$@"'
    return {"py_executable": f"sh -c {shlex.quote(f'{here}; {elsewhere}')} sh"}
