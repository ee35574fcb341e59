"""The account of every row: in = kept + rejected, by source and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Account:
    """One source's rows. A row is a dialogue that a raw row could give (HC3 gives one for each answer)."""

    rows_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Rejected rows by reason."""
    cut: int = 0
    """Kept rows that were cut to the context."""

    @property
    def rows_in(self) -> int:
        """Rows that came in: each was kept or rejected."""
        return self.rows_kept + self.rejected.total()

    def as_json(self) -> dict[str, Any]:
        """``{rows_in, rows_kept, rejected {reason: n}, cut}``."""
        rejected = dict(sorted(self.rejected.items()))
        return {"rows_in": self.rows_in, "rows_kept": self.rows_kept, "rejected": rejected, "cut": self.cut}


@dataclass
class Ledger:
    """The accounts of all sources."""

    sources: dict[str, Account]

    @classmethod
    def of(cls, names: Iterable[str]) -> Ledger:
        """An empty account for each source."""
        return cls({name: Account() for name in names})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Ledger:
        """The ledger of :meth:`as_json`."""
        return cls(
            {
                name: Account(entry["rows_kept"], Counter(entry["rejected"]), entry["cut"])
                for name, entry in values["sources"].items()
            }
        )

    def keep(self, source: str, rows: int = 1) -> None:
        """Count kept rows."""
        self.sources[source].rows_kept += rows

    def reject(self, source: str, reason: str) -> None:
        """Count a rejected row."""
        self.sources[source].rejected[reason] += 1

    def reject_kept(self, source: str, reason: str) -> None:
        """Count a row that an earlier stage kept and this one rejects."""
        self.sources[source].rows_kept -= 1
        self.reject(source, reason)

    def as_json(self) -> dict[str, Any]:
        """Totals and every source's account."""
        accounts = self.sources.values()
        return {
            "rows_in": sum(account.rows_in for account in accounts),
            "rows_kept": sum(account.rows_kept for account in accounts),
            "rows_rejected": sum(account.rejected.total() for account in accounts),
            "sources": {name: account.as_json() for name, account in self.sources.items()},
        }
