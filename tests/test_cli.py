"""The commands: their help, what they print and write, and how little they load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_line import run, stand_alone

from koala_ray import __version__
from koala_ray.cli import cli
from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe, recipe_names


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_alone(tmp_path, monkeypatch)


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


ALL = dict(commands())


def words(path: tuple[str, ...]) -> str:
    return " ".join(("koala-ray", *path))


def test_the_commands_that_others_rely_on() -> None:
    assert {
        "prepare",
        "train",
        "generate",
        "run",
        "preview",
        "recipe",
        "cluster",
        "sample-data",
        "sources",
        "fetch",
        "ledger",
        "plan",
        "curves",
    } <= set(cli.commands)


@pytest.mark.parametrize("path", ALL, ids=words)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(path: tuple[str, ...], flag: str) -> None:
    result = run(*path, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    command = ALL[path]
    described = result.stdout.split("\n\n")[1].strip()
    assert len(described) > 20, "what it does, in a sentence"
    if isinstance(command, click.Group):
        return
    assert "--json" in result.stdout
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} is not explained"


def takes_something(command: click.Command) -> bool:
    """Whether a command has an argument or an option of its own."""
    return any(parameter.name not in ("as_json", "help") for parameter in command.params)


@pytest.mark.parametrize(
    "path",
    [path for path, command in ALL.items() if not isinstance(command, click.Group) and takes_something(command)],
    ids=words,
)
def test_help_shows_an_example(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help").stdout
    assert words(path) in shown.split("Usage: ", 1)[1].split("\n", 1)[1], "no example"


def test_the_version() -> None:
    result = run("--version")
    assert (result.exit_code, __version__ in result.stdout) == (0, True)


def test_recipe_list() -> None:
    result = run("recipe", "list", "--json")
    assert result.exit_code == 0
    *lines, last = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert list(json.loads(last)["recipes"]) == recipe_names()


def test_recipe_show_prints_a_recipe_that_loads(tmp_path: Path) -> None:
    result = run("recipe", "show", "tiny", "--data", "/raw", "--set", "train.lr=1e-5")
    assert result.exit_code == 0
    (tmp_path / "mine.yaml").write_text(result.stdout)
    shown = load_recipe(str(tmp_path / "mine.yaml"))
    assert shown == load_recipe("tiny", ["train.lr=1e-5"], "/raw")
    assert (shown.train.lr, shown.data.root) == (1e-5, "/raw")


def test_recipe_show_as_json() -> None:
    result = run("recipe", "show", "tiny", "--json")
    assert json.loads(result.stdout.splitlines()[-1]) == load_recipe("tiny").model_dump(mode="json")


def test_the_default_recipe_is_real_and_small() -> None:
    assert run("recipe", "show").stdout == load_recipe("koala-smol").to_yaml()


def test_sample_data(tmp_path: Path) -> None:
    result = run("sample-data", "--to", "samples", "--json")
    assert result.exit_code == 0
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["folder"] == str(tmp_path / "samples")
    for globs in figures["sources"].values():
        for pattern in globs:
            assert list((tmp_path / "samples").glob(pattern))
    assert "written to samples" in result.stderr


@pytest.mark.parametrize("name", ["train", "run"])
def test_price_and_budget_are_settings_of_the_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Recipe] = []

    def keep(*arguments: object) -> Recipe:
        loaded.append(load_recipe(*arguments))  # type: ignore[arg-type]
        raise KoalaError("that will do")

    monkeypatch.setattr("koala_ray.recipe_file.load_recipe", keep)
    line = [name, "tiny", "--set", "cost.price=9", "--set", "train.lr=1e-4", "--price", "1.5", "--budget", "100"]
    assert run(*line).exit_code == 2
    assert (loaded[0].cost.price, loaded[0].cost.budget, loaded[0].train.lr) == (1.5, 100, 1e-4)
    assert run(name, "tiny", "--set", "cost.budget=7").exit_code == 2
    assert (loaded[1].cost.price, loaded[1].cost.budget) == (None, 7)


RECORDS = [
    {"kind": "start", "step": 0, "workers": 1, "device": "cpu", "parameters": 10, "trained_parameters": 10},
    {"kind": "evaluation", "step": 0, "heldout_loss": 2.5, "groups": {"hh/negative": {"loss": 2.5, "learnt": 9}}}
    | {"seconds": 1.0, "samples": []},
    {"kind": "step", "step": 1, "loss": 2.0, "lr": 1e-5, "grad_norm": 1.0, "tokens": 100, "learnt": 40}
    | {"seconds": 0.5, "data_wait": 0.0, "checkpoint_stall": 0.0},
]


@pytest.mark.parametrize("out", ["o", "o/mine.png", "o/mine.html"])
def test_curves_of_runs(out: str, tmp_path: Path) -> None:
    for name in ("train-0", "train-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    result = run("curves", "train-0", "train-1", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    *lines, last = result.stdout.splitlines()
    assert lines[0] == "train-0  1 step  loss 2.000 → 2.000  held out 2.500 → 2.500  200 tokens/s"
    figures = json.loads(last)
    assert [(one["run"], one["folder"]) for one in figures["runs"]] == [
        (name, str(tmp_path / name)) for name in ("train-0", "train-1")
    ]
    assert figures["runs"][0]["heldout_groups"] == {"hh/negative": [2.5, 2.5]}
    files = [figures[kind] for kind in ("png", "html") if kind in figures]
    wanted = ["o/mine.png"] if out.endswith("png") else ["o/mine.html"] if out.endswith("html") else []
    assert files == [str(tmp_path / name) for name in wanted or ["o/curves.png", "o/curves.html"]]
    assert sorted(map(str, (tmp_path / "o").iterdir())) == sorted(files)


def test_plan(tmp_path: Path) -> None:
    result = run("plan", "koala-all-13b", "--on", "8xA100-80GB", "--price", "1.50", "--tokens", "180000000",
                 "--hazard", "0.1", "--html", "plan.html", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert {
        "memory_gb_per_gpu",
        "recommended",
        "tokens",
        "step_seconds",
        "hours",
        "dollars",
        "checkpoint_minutes",
    } <= set(figures)
    assert "expected_dollars_with_reclaims" in figures
    assert figures["tokens"] == 360_000_000
    assert figures["dollars"] == pytest.approx(8 * 1.5 * figures["hours"], rel=1e-3)
    assert (tmp_path / "plan.html").read_text().startswith("<!doctype html>")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


HEAVY = ("torch", "ray", "deepspeed", "transformers", "datasets", "pyarrow", "numpy", "pandas", "matplotlib")
LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert python(f"import koala_ray, koala_ray.cli; {LOADED}") == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["recipe", "show", "tiny"]])
def test_help_and_recipes_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"import atexit, sys; sys.argv = ['koala-ray', *{arguments}]\n"
    code += f"atexit.register(lambda: exec({LOADED!r}))\nfrom koala_ray.cli import main\nmain()"
    assert python(code) == "[]"


def test_a_cluster_that_is_gone_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "koala_ray", "prepare", "tiny", "--out", str(tmp_path)],
        env={**os.environ, "RAY_ADDRESS": address}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"the Ray cluster doesn't answer: [Errno 111] Connection refused (RAY_ADDRESS={address})" in done.stderr
    assert "unset RAY_ADDRESS" in done.stderr
