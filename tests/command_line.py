"""The command line in this process, in a folder and with a state of its own, and without a Ray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import koala_ray
from koala_ray.cli import cli

PACKAGE = Path(koala_ray.__file__).parent
CONNECTING = [
    ".".join(("koala_ray", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r"^from koala_ray\.session import .*\bconnect\b", path.read_text(encoding="utf-8"), re.MULTILINE)
]
"""The modules that ask for a Ray."""


def stand_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what is run a folder and a state of its own; whatever asks for a Ray fails."""

    def refuse() -> None:
        raise AssertionError("a Ray is asked for")

    for module in CONNECTING:
        monkeypatch.setattr(f"{module}.connect", refuse)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KOALA_RAY_HOME", str(folder / "home"))
    monkeypatch.delenv("KOALA_DATA", raising=False)


def run(*arguments: str) -> Result:
    """What a command line prints, and the status it ends with."""
    return CliRunner().invoke(cli, list(arguments))
