"""The one error that a user can mend; everything else is a failure of ours or of the machine."""

from __future__ import annotations


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
        return (_rebuild, (self.error, self.where, self.mend))

    def as_json(self) -> dict[str, str]:
        """The machine-readable form: ``{"error", "where", "mend"}``."""
        return {"error": self.error, "where": self.where, "mend": self.mend}


def _rebuild(error: str, where: str, mend: str) -> KoalaError:
    return KoalaError(error, where=where, mend=mend)
