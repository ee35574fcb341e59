"""Recipes from files: a packaged one or a YAML file, with overrides; what is wrong in them is told with its mend.

YAML selects, ``--set train.lr=1e-5`` overrides.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from koala_ray.errors import KoalaError
from koala_ray.recipe import SOURCE_NAMES, Recipe, Settings


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("koala_ray") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(name: str, sets: Sequence[str] = (), data: str | None = None) -> Recipe:
    """The recipe of a name or YAML file, with overrides.

    Args:
        name: a packaged recipe's name, or the path of a YAML file.
        sets: overrides such as ``train.lr=1e-5``; the value is read as YAML.
        data: overrides ``data.root``.

    Raises:
        KoalaError: no such recipe, an unknown key (the nearest valid one is named), or a value that won't do.
    """
    values = _read(name)
    for item in sets:
        _override(values, item)
    if data is not None:
        _put(values, ["data", "root"], data)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, name) from None


def _read(name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise KoalaError("there is no such recipe file", where=name, mend="give the path of a YAML file")
        text = path.read_text(encoding="utf-8", errors="replace")
    elif name in recipe_names():
        text = (resources.files("koala_ray") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        close = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.4)
        guess = f"did you mean {close[0]}? " if close else ""
        raise KoalaError(
            "there is no recipe of this name",
            where=name,
            mend=f"{guess}there are: {', '.join(recipe_names())}",
        )
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise KoalaError("the recipe is not valid YAML", where=name, mend=str(error).replace("\n", " ")) from error
    if not isinstance(values, dict):
        raise KoalaError("the recipe is not a YAML mapping", where=name, mend="write it as `key: value` lines")
    values.setdefault("name", Path(name).stem)
    return values


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-5`` as a text and ``off`` as false; a recipe means a number and, where one may stand, a word.

    Settings that are true or false take ``yes``, ``off`` and the like all the same: pydantic reads them so.
    """


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789"))


def _override(values: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise KoalaError("an override needs a key and a value", where=item, mend="write --set train.lr=1e-5")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise KoalaError("the value is not valid YAML", where=item, mend="quote it for the shell") from error
    parts = key.strip().split(".")
    _check_path(parts, item)
    _put(values, parts, value)


def _put(values: dict[str, Any], parts: Sequence[str], value: object) -> None:
    """Set a nested value; what stands in the way and is no mapping (``data:`` with nothing after it) gives way."""
    place = values
    for part in parts[:-1]:
        below = place.get(part)
        place[part] = below = dict(below) if isinstance(below, dict) else {}
        place = below
    place[parts[-1]] = value


def _check_path(parts: list[str], item: str) -> None:
    """Refuse a dotted key that leads nowhere, naming the nearest one that exists."""
    valid = [*_dotted_keys(), *(f"data.{part}.{name}" for part in ("sources", "repeats") for name in SOURCE_NAMES)]
    key = ".".join(parts)
    if key not in valid:
        raise KoalaError(f"there is no setting {key!r}", where=f"--set {item}", mend=_nearest(key, valid))


def _dotted_keys() -> list[str]:
    keys: list[str] = []
    for name, field in Recipe.model_fields.items():
        keys.append(name)
        part = field.annotation
        if isinstance(part, type) and issubclass(part, Settings):
            keys += [f"{name}.{inner}" for inner in part.model_fields]
    return keys


def _nearest(key: str, valid: Sequence[str]) -> str:
    # A right last part in the wrong place first: max_tokens means generate.max_tokens, not tokens.
    same = [name for name in valid if name.split(".")[-1] == key.split(".")[-1]]
    close = difflib.get_close_matches(key, same or valid, n=1, cutoff=0 if same else 0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return hint + "`koala-ray recipe show NAME` prints all settings"


def _explain(error: ValidationError, name: str) -> KoalaError:
    """The first thing that pydantic found wrong, as an error that says what, where and how to mend it."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        return KoalaError(f"there is no setting {key!r}", where=name, mend=_nearest(key, _dotted_keys()))
    if first["loc"][:2] in (("data", "sources"), ("data", "repeats")) and first["loc"][-1] == "[key]":
        return KoalaError(
            f"there is no source {first['input']!r}",
            where=f"{name}: {first['loc'][0]}.{first['loc'][1]}",
            mend=_nearest_source(first["input"]),
        )
    message = first["msg"].removeprefix("Value error, ")
    mend = message.partition("; ")[2] or f"got {first['input']!r}"
    return KoalaError(message.partition("; ")[0], where=f"{name}: {key}", mend=mend)


def _nearest_source(name: object) -> str:
    close = difflib.get_close_matches(str(name), SOURCE_NAMES, n=1, cutoff=0.4)
    return (f"did you mean {close[0]}? " if close else "") + f"there are: {', '.join(SOURCE_NAMES)}"
