from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koala_ray.cluster import token
from koala_ray.errors import KoalaError
from koala_ray.home import private_folder, state_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (token.TOKEN_VARIABLE, token.PATH_VARIABLE, token.MODE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_folder_is_the_named_one_or_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_folder() == home
    monkeypatch.setenv("KOALA_RAY_HOME", "~/elsewhere")
    assert state_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("KOALA_RAY_HOME")
    assert state_folder() == Path.home() / ".cache" / "koala-ray"


def test_private_folder_is_private_on_every_level_and_leaves_the_users_alone(home: Path) -> None:
    folder = private_folder("a", "b")
    assert folder == home / "a" / "b"
    assert [mode(home), mode(home / "a"), mode(folder)] == [0o700] * 3
    home.chmod(0o755)
    private_folder("c")
    assert mode(home) == 0o755


def test_token_is_made_once_and_only_its_owner_can_read_it(home: Path) -> None:
    before = os.umask(0)
    try:
        path = token.ensure_token()
    finally:
        os.umask(before)
    assert path == home / "auth_token"
    assert (mode(path), mode(home)) == (0o600, 0o700)
    first = path.read_text()
    assert len(first) == 64
    assert int(first, 16) > 0
    assert token.ensure_token() == path
    assert path.read_text() == first
    assert [entry.name for entry in home.iterdir()] == ["auth_token"], "a draft was left behind"


def test_token_differs_between_folders(tmp_path: Path) -> None:
    one, two = token.ensure_token(tmp_path / "one"), token.ensure_token(tmp_path / "two")
    assert one.parent == tmp_path / "one"
    assert one.read_text() != two.read_text()


def test_commands_that_start_together_use_one_token(home: Path) -> None:
    for attempt in range(20):
        folder = home / str(attempt)
        with ThreadPoolExecutor(8) as pool:
            seen = set(pool.map(lambda _, f=folder: token.ensure_token(f).read_text(), range(16)))
        assert len(seen) == 1


def test_a_readable_token_is_closed_again(home: Path) -> None:
    path = token.ensure_token()
    before = path.read_text()
    path.chmod(0o644)
    token.ensure_token()
    assert (mode(path), path.read_text()) == (0o600, before)


def test_an_empty_token_file_is_an_error_and_no_second_token(home: Path) -> None:
    token.ensure_token().write_text("\n")
    with pytest.raises(KoalaError, match="missing or empty") as caught:
        token.ensure_token()
    assert caught.value.where == str(home / "auth_token")
    assert "delete" in caught.value.mend


def test_the_users_token_file_is_used_as_it_is(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "mine"
    users.write_text("secret\n")
    users.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(users))
    assert token.ensure_token() == users
    assert (mode(users), users.read_text()) == (0o644, "secret\n")
    assert token.auth_environment() == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(users)}
    assert token.auth_headers() == {"Authorization": "Bearer secret"}
    assert not home.exists()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_users_token_file_without_a_token_is_an_error(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "mine"
    if content is not None:
        users.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(users))
    with pytest.raises(KoalaError, match="missing or empty") as caught:
        token.ensure_token()
    assert caught.value.where == str(users)
    assert "RAY_AUTH_TOKEN_PATH" in caught.value.mend


def test_a_token_in_the_environment_wins_and_is_written_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-the-shell")
    assert token.auth_headers() == {"Authorization": "Bearer from-the-shell"}
    assert "from-the-shell" not in token.auth_environment().values()
    assert "from-the-shell" not in (home / "auth_token").read_text()


def test_the_environment_names_the_file(home: Path) -> None:
    assert token.auth_environment() == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "auth_token"),
    }
