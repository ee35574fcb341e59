"""What a browser would make of a page, for the tests of all pages."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
"""HTML's elements that nothing closes."""


class Reader(HTMLParser):
    """A page's elements, texts and tables; every element that is opened is closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        """Each element and its attributes."""
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        """The rows of each table's cells, by its caption."""
        self.open: list[str] = []
        self._inside: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def of(self, tag: str) -> list[str]:
        """The texts that stand directly in elements of a name."""
        return [text for inside, text in zip(self._inside, self.texts, strict=True) if inside == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        self.tags.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> within {self.open}"
        self.open.pop()
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        self._inside.append(inside)
        self.texts.append(data)
        if inside == "caption":
            self._caption += data
        elif {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data
