"""Preparation through its real entry points: every row accounted for, the same folder whatever happens on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import koala

from koala_ray import storage
from koala_ray.cli import cli
from koala_ray.curate.ledger import LEDGER, read_ledger
from koala_ray.curate.ledger_table import check
from koala_ray.prepare import prepare
from koala_ray.recipe_file import load_recipe
from koala_ray.samples import write_samples
from koala_ray.steps import is_committed
from koala_ray.tables import part_files, read_table

pytestmark = pytest.mark.ray


def rejected_rows(folder: str) -> list[dict]:
    return [row for part in part_files(folder, "rejected") for row in read_table(part).to_pylist()]


def assert_accounted(figures: dict) -> None:
    """The ledgers balance, and each rejected row is kept with its place and reason."""
    for folder in (figures["curated"], figures["folder"]):
        ledger = read_ledger(folder)
        check(ledger)
        stored = json.loads(storage.read_bytes(storage.join(folder, LEDGER)))
        assert stored == {name: value for name, value in ledger.items() if name != "base"}
        assert b"<svg" in storage.read_bytes(storage.join(folder, "ledger.html"))
    rows = rejected_rows(figures["curated"]) + rejected_rows(figures["folder"])
    assert len(rows) == figures["rows_rejected"]
    assert all(row["line"] > 0 and row["file"] and row["filter"] and row["reason"] for row in rows)
    for name, account in figures["sources"].items():
        reasons = [row["reason"] for row in rows if row["source"] == name]
        assert {reason: reasons.count(reason) for reason in set(reasons)} == account["rejected"]


def test_the_ledger_balances_on_every_real_file(ray_session, real_data, tmp_path):
    _, figures = prepare(load_recipe("tiny", [], str(real_data)), str(tmp_path))
    assert_accounted(figures)
    rows_in = {name: account["rows_in"] for name, account in figures["sources"].items()}
    assert rows_in == {"sharegpt": 100, "hc3": 4748, "oig": 804, "alpaca": 1000, "hh": 3000, "summarize": 2}
    assert set(read_ledger(figures["folder"])["prompts"]) == {"koala", "self-instruct", "vicuna"}
    # Next to nothing of clean English rows is lost.
    assert figures["rows_kept"] / figures["rows_in"] > 0.95


def test_the_ledger_balances_on_hostile_files(ray_session, tmp_path):
    """Every sample file cut off, with bytes that are no text, or not what its name says, beside the whole ones."""
    raw = tmp_path / "raw"
    write_samples(raw)
    for path in sorted((raw / "sources").iterdir()):
        data = path.read_bytes()
        copy = path.with_name(f"{path.name.split('.')[0]}_copy.{path.name.partition('.')[2]}")
        copy.with_name(f"cut-{copy.name}").write_bytes(data[: len(data) * 2 // 3])
        copy.with_name(f"bad-{copy.name}").write_bytes(data.replace(b"the", b"th\xff", 5).replace(b'"}', b'"', 1))
        copy.with_name(f"none-{copy.name}").write_bytes(b"")
        copy.with_name(f"other-{copy.name}").write_bytes(b'\xef\xbb\xbf[null, 5, {"a": [[]]},\r\n{"text": {}}')
    globs = {
        name: f'["sources/**{name}*"]' for name in ("sharegpt", "hc3", "oig", "alpaca", "hh", "webgpt", "summarize")
    }
    sets = [f"data.sources.{name}={glob}" for name, glob in globs.items()]
    _, figures = prepare(load_recipe("tiny", sets, str(raw)), str(tmp_path / "out"))
    assert_accounted(figures)
    for name, account in figures["sources"].items():
        assert account["rows_kept"] > 0, name
        assert account["rejected"]["empty file"] >= 1
        assert account["rejected"].keys() & {"not valid JSON", "cut-off JSON", "damaged compression"}
        assert account["rejected"]["asks the same as an earlier row"] > 0


def start_and_kill(arguments: list[str], step: str, out: Path) -> Path:
    """Kill a command as soon as the step's folder is there; gives the folder, which is not committed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "koala_ray", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and not list(out.glob(f"{step}-*")):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (left,) = out.glob(f"{step}-*")
    assert not is_committed(str(left))
    return left


def test_a_preparation_killed_in_each_step_gives_the_folder_of_an_undisturbed_one_on_any_number_of_cpus(
    tiny_tokens, tmp_path
):
    arguments = ["prepare", "tiny", "--out", str(tmp_path), "--json"]
    for step in ("curate", "tokens"):
        left = start_and_kill(arguments, step, tmp_path)
        (left / "examples-00099.parquet").write_bytes(b"left over")
    done = koala(*arguments, env={**os.environ, "KOALA_RAY_CPUS": "1"})
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["content_hash"] == tiny_tokens.manifest.content_hash
    prepared = CliRunner().invoke(cli, arguments)
    assert json.loads(prepared.stdout.splitlines()[-1])["skipped"], prepared.output
    shown = CliRunner().invoke(cli, ["ledger", figures["folder"], "--json"])
    assert shown.exit_code == 0, shown.output
    assert "hc3" in shown.stdout
    assert json.loads(shown.stdout.splitlines()[-1])["rows_in"] == figures["rows_in"]
