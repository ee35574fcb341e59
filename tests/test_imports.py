"""Imports go one way: a module of the package imports from its own layer or from those below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "koala_ray"
LAYERS = [
    {
        "__init__",
        "errors",
        "faults",
        "home",
        "quiet",
        "records",
        "storage",
        "tables",
        "recipe",
        "recipe_file",
        "steps",
        "progress",
        "pages",
        "session",
        "forkserver",
        "models",
        "prompts",
        "samples",
        "cluster",
    },
    {"sources"},
    {"curate"},
    {"mixture"},
    {"tokens"},
    {"plan"},
    {"train", "checkpoint", "preempt"},
    {"generate"},
    {"compare"},
    {"serve"},
    {"prepare", "run", "cli", "__main__"},
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(module, imported) → why this one may look up. Empty: keep it so."""
HEAVY = {"torch", "ray", "deepspeed", "transformers", "datasets", "matplotlib"}
MODULES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(path: Path, *, only_on_import: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Each module that a file imports, anywhere in it, with the names taken from it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _run_on_import(tree) if only_on_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module
            yield node.module, [alias.name for alias in node.names]


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not function and not typing_only:
            yield child
            yield from _run_on_import(child)


def parts_of_package(module: str, names: list[str]) -> list[str]:
    """The sub-modules of the package that an import reaches, by their first name below it."""
    if module == "koala_ray":
        return [name if name in HEIGHT else "__init__" for name in names] or ["__init__"]
    return [module.split(".")[1]] if module.startswith("koala_ray.") else []


def test_every_module_has_its_layer() -> None:
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert there <= set(HEIGHT), "a new module: give it its place in LAYERS"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    upward = [
        f"{module_name(path)} imports {module}"
        for module, names in imports(path)
        for part in parts_of_package(module, names)
        if HEIGHT[part] > HEIGHT[own] and (module_name(path), module) not in EXCEPTIONS
    ]
    assert not upward


def test_every_exception_is_needed() -> None:
    found = {(module_name(path), module) for path in MODULES for module, _ in imports(path)}
    assert set(EXCEPTIONS) <= found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_the_package_imports_neither_jobs_nor_tests(path: Path) -> None:
    for module, _ in imports(path):
        assert module.split(".")[0] not in {"jobs", "tests", "conftest", "benchmarks"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_names_that_begin_with_an_underscore_stay_in_their_module(path: Path) -> None:
    for module, names in imports(path):
        if module.split(".")[0] == "koala_ray":
            assert not [name for name in [*module.split("."), *names] if is_private(name)]


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_call_what_any_user_may_call(path: Path) -> None:
    used = list(imports(path))
    assert {module.split(".")[0] for module, _ in used} <= {"click", "koala_ray", "__future__"}
    for module, names in used:
        assert not [name for name in [*module.split("."), *names] if is_private(name)]
    assert any(module.startswith("koala_ray") for module, _ in used)
    assert path.stat().st_mode & 0o111, "a job is executable"


def test_there_are_jobs() -> None:
    assert {"prepare.py", "train.py", "generate.py"} <= {path.name for path in JOBS}


LIGHT = ["__init__", "__main__", "errors", "home", "quiet", "records", "storage", "recipe"]
LIGHT += ["recipe_file", "pages", "steps", "progress", "session", "prepare", "run"]
LIGHT += [*(f"cli/{path.stem}" for path in (PACKAGE / "cli").glob("*.py"))]


@pytest.mark.parametrize("name", LIGHT)
def test_what_every_command_loads_loads_nothing_heavy_itself(name: str) -> None:
    loaded = {module.split(".")[0] for module, _ in imports(PACKAGE / f"{name}.py", only_on_import=True)}
    assert not loaded & HEAVY
