"""The account of every row: rows in = rows kept + rows rejected, by source, filter and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.sources.registry import SOURCES
from koala_ray.steps import read_manifest

FILTERS = (
    "read",
    "layout",
    "repair",
    "keywords",
    "language",
    "decontaminate",
    "duplicates",
    "near duplicates",
    "mixture",
    "length",
)
"""What a row passes, in order. The last two belong to the token step."""
LEDGER = "ledger.json"
PAGE = "ledger.html"
EXAMPLES, REJECTED = "examples", "rejected"
"""How the Parquet parts of kept and rejected rows begin."""


@dataclass
class Account:
    """One source's rows. A row is a dialogue that a raw row could give (HC3 gives one for each answer)."""

    rows_kept: int = 0
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    """For each filter the rejected rows by reason."""
    repaired: Counter[str] = field(default_factory=Counter)
    """Rows that were mended, by kind; one row may need several."""

    @property
    def rows_rejected(self) -> int:
        """Rows that any filter left out."""
        return sum(reasons.total() for reasons in self.rejected.values())

    @property
    def rows_in(self) -> int:
        """Rows that came in: each was kept or rejected."""
        return self.rows_kept + self.rows_rejected

    def reasons(self) -> Counter[str]:
        """Rejected rows by reason, over all filters."""
        return sum(self.rejected.values(), Counter())

    def as_json(self) -> dict[str, Any]:
        """``{rows_in, rows_kept, rejected {reason: n}, filters [{filter, rows_in, rows_kept, rejected}], repaired}``.

        The rows that a filter kept are those that the next one takes in.
        """
        filters, left = [], self.rows_in
        for name in FILTERS:
            reasons = self.rejected.get(name, Counter())
            entry = {"filter": name, "rows_in": left, "rows_kept": left - reasons.total()}
            filters.append({**entry, "rejected": dict(sorted(reasons.items()))})
            left -= reasons.total()
        return {
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "rejected": dict(sorted(self.reasons().items())),
            "filters": filters,
            "repaired": dict(sorted(self.repaired.items())),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Account:
        """The account of :meth:`as_json`."""
        rejected = {item["filter"]: Counter(item["rejected"]) for item in entry["filters"] if item["rejected"]}
        return cls(entry["rows_kept"], rejected, Counter(entry["repaired"]))


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
        return cls({name: Account.from_json(entry) for name, entry in values["sources"].items()})

    def keep(self, source: str, rows: int = 1) -> None:
        """Count kept rows."""
        self.sources[source].rows_kept += rows

    def reject(self, source: str, by: str, reason: str, rows: int = 1) -> None:
        """Count rows that a filter rejected.

        Raises:
            ValueError: there is no such filter.
        """
        if by not in FILTERS:
            raise ValueError(f"there is no filter {by!r}")
        self.sources[source].rejected.setdefault(by, Counter())[reason] += rows

    def reject_kept(self, source: str, by: str, reason: str, rows: int = 1) -> None:
        """Count rows that an earlier step kept and this one rejects."""
        self.sources[source].rows_kept -= rows
        self.reject(source, by, reason, rows)

    def as_json(self) -> dict[str, Any]:
        """Totals and every source's account, with the published counts beside it.

        In the sources' own order: a manifest that was read back has its keys sorted.
        """
        accounts = self.sources.values()
        return {
            "rows_in": sum(account.rows_in for account in accounts),
            "rows_kept": sum(account.rows_kept for account in accounts),
            "rows_rejected": sum(account.rows_rejected for account in accounts),
            "sources": {
                name: self.sources[name].as_json() | _published(name) for name in SOURCES if name in self.sources
            },
        }


def read_ledger(folder: str) -> dict[str, Any]:
    """The ledger of a finished curate or tokens step, as :meth:`Ledger.as_json` gave it.

    Raises:
        KoalaError: the folder isn't there, isn't finished, or is another step's.
    """
    manifest = read_manifest(folder)
    if "sources" not in manifest.counts:
        raise KoalaError(
            f"a {manifest.step} step keeps no ledger",
            where=storage.absolute(folder),
            mend="give the folder of a tokens or curate step; `koala-ray prepare` prints both",
        )
    return manifest.counts


def _published(name: str) -> dict[str, Any]:
    source = SOURCES[name]
    return {
        "published": source.published,
        "published_rows": source.published_rows,
        "published_kept": source.published_kept,
    }
