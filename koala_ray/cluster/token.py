"""Ray's access token and the environment that makes a Ray private to this user and this machine."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from koala_ray.errors import KoalaError
from koala_ray.home import private_folder

TOKEN_FILE = "auth_token"
MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"


def ensure_token(folder: Path | None = None) -> Path:
    """The file that holds the token; makes it, readable by its owner alone, when there is none yet.

    A file named by ``RAY_AUTH_TOKEN_PATH`` is the user's: it is returned as it is, mode and all.
    ``RAY_AUTH_TOKEN`` needs no file and is never written to one; Ray prefers it to every file, so a
    caller that hands on its environment hands on that token.

    Args:
        folder: where the file lies; the state folder when left out.

    Raises:
        KoalaError: the file is empty, or ``RAY_AUTH_TOKEN_PATH`` names one that is missing.
    """
    users = os.environ.get(PATH_VARIABLE, "")
    if users:
        path = Path(users).expanduser().absolute()
        mend = f"write a token into it, or unset {PATH_VARIABLE} and one is made for you"
    else:
        path = private_folder(below=folder) / TOKEN_FILE
        mend = "delete it while no cluster runs, and a new one is made"
        if not path.exists():
            _write_once(path)
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        raise KoalaError("the token file is missing or empty", where=str(path), mend=mend)
    return path


def auth_environment(folder: Path | None = None) -> dict[str, str]:
    """The variables that switch a Ray's token authentication on, for its processes and its clients.

    Args:
        folder: as for `ensure_token`.
    """
    return {MODE_VARIABLE: "token", PATH_VARIABLE: str(ensure_token(folder))}


def loopback_environment() -> dict[str, str]:
    """The variable that keeps all of Ray's ports on 127.0.0.1; it must be set before ray is imported.

    On Linux Ray replaces ``--node-ip-address=127.0.0.1`` by the machine's outward address, and its
    servers then listen on every interface. With multi-node clusters off, Ray's default elsewhere,
    it stays on loopback. Clients need it too: they rewrite ``RAY_ADDRESS=127.0.0.1:...`` likewise.
    """
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def auth_headers(path: Path | None = None) -> dict[str, str]:
    """The HTTP header that shows the token to the dashboard, by Ray's own order of preference.

    Args:
        path: the token file; `ensure_token` finds it when left out.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        token = (path or ensure_token()).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"}


def _write_once(path: Path) -> None:
    # Written under another name and then linked: a reader never sees half a token, and of two
    # commands that start together one wins and both use its token. 0600 holds from the first moment.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
