"""The one error that a user can mend; everything else is a failure of ours or of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class KoalaError(Exception):
    """Wrong input: says what is wrong, where, and how to mend it.

    The command line prints it in two lines and exits with 2; with ``--json`` it is the
    object ``{"error", "where", "mend"}``.
    """

    def __init__(self, error: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(error, where, mend)
        self.error = error
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.error} ({self.where})" if self.where else self.error
        return f"{head}\n  mend: {self.mend}" if self.mend else head

    def __reduce__(self) -> tuple[object, ...]:
        # Ray pickles errors that cross a process border; keyword arguments need help there.
        return (_rebuild, (type(self), self.error, self.where, self.mend))

    def as_json(self) -> dict[str, Any]:
        """The machine-readable form: ``{"error", "where", "mend"}``."""
        return {"error": self.error, "where": self.where, "mend": self.mend}


def _rebuild(kind: type[KoalaError], error: str, where: str, mend: str) -> KoalaError:
    return kind(error, where=where, mend=mend)


class StorageFailure(KoalaError):
    """An object store that can't be used now; it may be back in a minute."""


class KoalaErrors(KoalaError):
    """Several problems found at once, each with its place and its mend; :func:`refuse` raises it.

    Printed they are a numbered list. As JSON, ``problems`` lists them, and error, where and mend are theirs joined.
    """

    def __init__(self, problems: Sequence[KoalaError]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            f"{len(self.problems)} problems: " + "; ".join(problem.error for problem in self.problems),
            where="; ".join(dict.fromkeys(problem.where for problem in self.problems if problem.where)),
            mend="; ".join(dict.fromkeys(problem.mend for problem in self.problems if problem.mend)),
        )

    def __str__(self) -> str:
        listed = [str(problem).replace("\n", "\n   ") for problem in self.problems]
        return "\n".join(
            [f"{len(listed)} problems", *(f"{place:3}. {text}" for place, text in enumerate(listed, start=1))]
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (KoalaErrors, (self.problems,))

    def as_json(self) -> dict[str, Any]:
        """The form of one error, with ``problems``: a list of objects ``{"error", "where", "mend"}``."""
        return super().as_json() | {"problems": [problem.as_json() for problem in self.problems]}


def refuse(problems: Sequence[KoalaError]) -> None:
    """Raise what was found wrong: nothing, the one problem, or all of them together.

    Raises:
        KoalaError: there is a problem; a :class:`KoalaErrors` if there are several.
    """
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise KoalaErrors(problems)
