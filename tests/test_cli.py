from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import koala_ray
from koala_ray import __version__
from koala_ray.cli import cli
from koala_ray.errors import KoalaError
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe, recipe_names

PACKAGE = Path(koala_ray.__file__).parent
CONNECTING = [
    ".".join(("koala_ray", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r"^from koala_ray\.session import .*\bconnect\b", path.read_text(encoding="utf-8"), re.MULTILINE)
]
"""The modules that ask for a Ray."""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a state of its own; and whatever asks for a Ray fails."""

    def refuse() -> None:
        raise AssertionError("a Ray is asked for")

    for module in CONNECTING:
        monkeypatch.setattr(f"{module}.connect", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KOALA_DATA", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


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


WRONG = {
    "unknown recipe": ("train koala-smoll", "no recipe of this name", "koala-smoll", "koala-smol?"),
    "recipe file that is not there": ("prepare my.yaml", "no such recipe file", "my.yaml", "YAML"),
    "typo in a key": ("train tiny --set train.lrr=1", "no setting 'train.lrr'", "train.lrr=1", "train.lr?"),
    "override without a value": ("recipe show tiny --set train.lr", "key and a value", "train.lr", "--set"),
    "bad value": ("prepare tiny --set train.lr=x", "valid number", "train.lr", "'x'"),
    "batch that does not divide": ("run tiny --set train.batch_rows=3", "divide", "train", "batch_rows=4"),
    "unknown source": ("prepare tiny --set data.sources.hc4=[a]", "no setting", "hc4", "data.sources.hc3"),
    "source outside the mixture": (
        "prepare tiny --set data.mixture=koala-distill --set data.sources.hh=['*'] --set model.base=model",
        "has no hh",
        "data.sources",
        "data.mixture",
    ),
    "mixture that is not all there": (
        "prepare tiny --set data.mixture=koala-all --data raw --set model.base=model",
        "no file of sharegpt",
        "raw",
        "koala-ray fetch sharegpt",
    ),
    "another data set": (
        "prepare tiny --data raw --set data.sources.hh=['red-team.jsonl'] --set model.base=model",
        "red-team transcripts",
        "red-team.jsonl",
        "data.sources.hh",
    ),
    "prompt set that is not there": (
        "prepare tiny --data raw --set curate.against=[nonesuch.jsonl] --set model.base=model",
        "prompt set is not there",
        "nonesuch.jsonl",
        "JSON-lines",
    ),
    "unknown source to fetch": ("fetch hc4 --to o", "no source hc4", "fetch", "koala-ray sources"),
    "curves of no run": ("curves empty --out o", "no figures of a run", "empty", "train-"),
    "figures that can't be read": (
        "curves spoilt --out o",
        "can't be read",
        "spoilt/metrics.jsonl",
        "leave this run out",
    ),
    "curves below a file": ("curves train-0 --out regular-file/x", "can't write", "regular-file", "--out"),
    "machines that the plan does not know": ("plan --on 8xA100-80G --tokens 1000", "A100-80G", "--on", "A100-80GB?"),
    "plan for nothing": ("plan", "how much there is to train on", "koala-smol", "--packs"),
    "plan for another folder": ("plan --on 1xA100-80GB --packs empty", "not a finished step", "empty", "run the step"),
    "ledger of no step": ("ledger raw", "not a finished step", "raw", "run the step"),
    "missing data folder": ("prepare tiny --data /nonexistent --out o", "data folder", "/nonexistent", "--data"),
    "data folder without data": ("prepare tiny --data empty --out o", "no raw file", "empty", "hc3"),
    "data of an unknown kind": ("prepare tiny --data nonesuch://b --out o", "nonesuch", "nonesuch://b", "s3://"),
    "glob without files": (
        "prepare tiny --set data.sources.hc3=[x*] --out o",
        "no file matches",
        "data.sources.hc3",
        "glob",
    ),
    "missing base model": (
        "prepare tiny --set model.base=./nowhere --out o",
        "base model",
        "./nowhere",
        "smollm2-135m",
    ),
    "missing base model to train": ("train tiny --set model.base=./nowhere --out o", "base model", "./nowhere", "tiny"),
    "folder that is no model": ("train tiny --set model.base=empty --out o", "no model", "empty", "folder"),
    "missing model to generate with": ("generate --model ./nowhere --out o", "base model", "./nowhere", "tiny"),
    "out below a file": (
        "prepare tiny --out regular-file/o --data raw --set model.base=model",
        "can't write",
        "regular-file",
        "--out",
    ),
    "out that is a file": (
        "prepare tiny --out regular-file --data raw --set model.base=model",
        "can't write",
        "regular-file",
        "--out",
    ),
    "missing prompts": ("generate --model tiny --prompts no.jsonl --out o", "prompt set", "no.jsonl", "JSON-lines"),
    "missing prompts for the loop": ("run tiny --prompts no.jsonl --out o", "prompt set", "no.jsonl", "sample"),
    "prompts that do not travel": (
        "generate --model tiny --prompts koala",
        "does not travel",
        "--prompts koala",
        "KOALA_DATA",
    ),
    "folder as prompts": ("generate --model tiny --prompts empty", "prompt set", "empty", "JSON-lines"),
    "preview of nothing": ("preview nowhere", "not a finished step", "nowhere", "run the step"),
    "preview of another folder": ("preview empty", "not a finished step", "empty", "run the step"),
    "samples below a file": ("sample-data --to regular-file/x", "can't write", "regular-file", "folder"),
    "samples nowhere": ("sample-data --to /proc/koala", "can't write", "/proc/koala", "folder"),
}


def set_up(folder: Path) -> None:
    (folder / "regular-file").write_text("x")
    (folder / "empty").mkdir()
    (folder / "raw").mkdir()
    (folder / "raw" / "alpaca.json").write_text('[{"instruction": "a", "output": "b"}]')
    (folder / "raw" / "red-team.jsonl").write_text('{"transcript": "x", "rating": 1}')
    for name, text in (("train-0", ""), ("spoilt", '{"kind": "step", "step": 1}')):
        (folder / name).mkdir()
        (folder / name / "metrics.jsonl").write_text(text)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_says_what_where_and_how_to_mend_it(case: str, tmp_path: Path) -> None:
    line, what, where, mend = WRONG[case]
    set_up(tmp_path)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "home" not in path.parts}
    started = time.monotonic()
    result = run(*line.split())
    seconds = time.monotonic() - started
    assert result.exit_code == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert what in lines[0]
    assert where in lines[0]
    assert lines[1].startswith("  mend: ")
    assert mend in lines[1]
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "home" not in path.parts} == before
    # Generous: it is about not loading a model or starting a cluster first.
    assert seconds < 20


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_as_json(case: str, tmp_path: Path) -> None:
    line, what, where, mend = WRONG[case]
    set_up(tmp_path)
    result = run(*line.split(), "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout.splitlines()[-1])
    assert set(error) == {"error", "where", "mend"}
    assert what in f"{error['error']} {error['where']}"
    assert where in f"{error['error']} {error['where']}"
    assert mend in error["mend"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["prepare", "--nonesuch"],
        ["prepare", "tiny", "more"],
        ["generate"],
        ["preview"],
        ["sample-data"],
        ["curves"],
        ["train", "tiny", "--price", "-1"],
        ["run", "tiny", "--budget", "much"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.output


def test_a_failure_of_ours_ends_with_1_and_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    set_up(tmp_path)
    # Everything is right, so the command asks for a Ray, which fails here.
    result = run("prepare", "tiny", "--data", "raw", "--set", "model.base=model", "--out", "o", "--json")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    (log,) = (tmp_path / "home" / "logs").iterdir()
    assert "AssertionError: a Ray is asked for" in log.read_text()
    assert str(log) in json.loads(result.stdout.splitlines()[-1])["where"]


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
