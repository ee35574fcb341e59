"""Mends what scraping left in a dialogue's texts: the chat page's HTML, its button's label, escaped line ends.

Each repair acts only where the residue is certain; whatever could be what a person meant to write stays, byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from koala_ray.records import Turn
from koala_ray.sources.base import RowRejected

if TYPE_CHECKING:
    from markdownify import MarkdownConverter

LINE_ENDS = "line ends normalized"
CONTROLS = "control characters removed"
BYTE_ORDER_MARK = "byte order mark removed"
LITERAL_NEWLINE = "literal \\n unescaped"
COPY_CODE = "Copy code removed"
HTML = "HTML to Markdown"
EMPTY = "empty turn dropped"
JOINED = "turns of one role joined"
OPENING = "opening answer dropped"
CLOSING = "closing question dropped"
REPAIRS = (LINE_ENDS, CONTROLS, BYTE_ORDER_MARK, LITERAL_NEWLINE, COPY_CODE, HTML, EMPTY, JOINED, OPENING, CLOSING)
"""Every kind of repair, in the order in which they are reported."""


def repair(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Mended turns, and the kinds of repairs made, each once, in the order of :data:`REPAIRS`.

    Repairing twice changes nothing more; a dialogue without residue comes back as the same object. Markers and
    ``learn`` stay with their turns. A turn that becomes empty is dropped in the way of ``sources.base.alternate``.

    Raises:
        RowRejected: no exchange, or nothing to learn, remains.
    """
    if all(_PLAIN.fullmatch(turn.text) and "\\n" not in turn.text and "Copy code" not in turn.text for turn in turns):
        return turns, ()  # nearly all dialogues, in some microseconds
    kinds: set[str] = set()
    while True:  # one repair can uncover the residue of another; each makes the texts shorter or plainer
        mended, made = _mend(turns)
        if not made:
            return turns, tuple(kind for kind in REPAIRS if kind in kinds)
        kinds |= made
        turns = mended


def _mend(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], set[str]]:
    made: set[str] = set()
    texts = [_mend_text(turn, made) for turn in turns]
    if any(_BEGIN.match(text) for text in texts):
        for place in _chat_page_messages(turns, texts):
            texts[place] = _to_markdown(texts[place])
            made.add(HTML)
    if not made:
        return turns, made
    mended = [
        turn if text == turn.text else replace(turn, text=text.strip()) for turn, text in zip(turns, texts, strict=True)
    ]
    if all(turn.text for turn in mended):
        return tuple(mended), made
    return _alternate(mended, made), made


def _mend_text(turn: Turn, made: set[str]) -> str:
    text = turn.text
    if "\r" in text:
        made.add(LINE_ENDS)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL.search(text):
        made.add(CONTROLS)
        text = _CONTROL.sub("", text)
    if text.startswith("\ufeff"):
        made.add(BYTE_ORDER_MARK)
        text = text.lstrip("\ufeff")
    if "\\n" in text and turn.role == "assistant":
        text = _noted(_unescape_newlines(text), text, LITERAL_NEWLINE, made)
    if "Copy code" in text:
        text = _noted(_remove_button(text), text, COPY_CODE, made)
    return text


def _noted(mended: str, text: str, kind: str, made: set[str]) -> str:
    if mended != text:
        made.add(kind)
    return mended


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 and C1 without tab and newline. Joiners and marks of direction are no controls: emoji and Persian need them."""
_PLAIN = re.compile(r"(?!\ufeff|\s*<)[\t\n\x20-\x7e\xa0-\U0010ffff]*")
"""No control character, and neither a byte order mark nor a tag at the beginning."""


# A line end that was escaped once too often. In HC3, 1,331 of 3,561 ChatGPT answers are so, and no other text.

_PARAGRAPH = re.compile(r"""(?<=[\w.!?:;)\]"”'%])\\n\\n(?=[\w"“'(\[*•#-])|(?<=\w[.!?])\\n(?=[A-Z]|$)""")
"""A literal line end where prose has one: between paragraphs, or after a sentence, before a capital or at the end."""
_STRING_OPEN = re.compile(r"[(=,\[+{]\s*'[^']*$")
_STRING_OR_NEWLINE = re.compile(
    r"""(?:(?<=[(=\[+{])\s*|(?<=,)\s+)(["'`])(?:(?!\1|\\n\\n).)*\1(?=\s*[)\],;+}.])|(?<!\\)\\n"""
)
"""A string of a programming language, or a literal line end outside one."""


def _unescape_newlines(text: str) -> str:
    """Literal line ends → line ends, in an answer of one line that has such between paragraphs of prose.

    An answer with real line ends was not escaped, so there a literal one is meant; inside a string of code it is
    meant anywhere.
    """
    found = None if "\n" in text else _PARAGRAPH.search(text)
    if found is None or not _is_prose(text[: found.start()]):
        return text
    return _STRING_OR_NEWLINE.sub(lambda found: "\n" if found[0] == "\\n" else found[0], text)


def _is_prose(before: str) -> bool:
    return not (before.count('"') % 2 or before.count("`") % 2 or _STRING_OPEN.search(before))


# The label of the button above a code block.

_LANGUAGE = r"[A-Za-z][\w+#.-]{0,20}?"
_FENCED_BUTTON = re.compile(
    rf"^(?P<fence>[ \t]*`{{3,}})[ \t]*(?:(?P<info>{_LANGUAGE})?[ \t]*\n[ \t]*)?"
    rf"(?:(?P<glued>{_LANGUAGE})(?:Copy code)+(?:[ \t]*\n)?|(?:(?P<apart>{_LANGUAGE})[ \t]+)?(?:Copy code[ \t]*)+\n)",
    re.MULTILINE,
)
_LONE_BUTTON = re.compile(rf"^[ \t]*(?P<glued>{_LANGUAGE})?(?:Copy code)+[ \t]*\n", re.MULTILINE)


def _remove_button(text: str) -> str:
    """Without the label that follows a fence or a language's name, or stands alone on a line; the language stays."""
    text = _FENCED_BUTTON.sub(_fence_with_language, text)
    return _LONE_BUTTON.sub(lambda found: f"{found['glued']}\n" if found["glued"] else "", text)


def _fence_with_language(found: re.Match[str]) -> str:
    language = found["info"] or found["glued"] or found["apart"] or ""
    return f"{found['fence']}{language}\n"


# The chat page's HTML, as browser extensions stored it.

_BLOCKS = "div|p|pre|ol|ul|h[1-6]|table|blockquote"
_BEGIN = re.compile(rf"\s*<({_BLOCKS})[\s>]")
_END = re.compile(rf"</({_BLOCKS})>\s*$")
_DECLARATION = re.compile(r"<[?!](?!--)")
_PAGE_CLASSES = {"markdown", "hljs", "dark:prose-invert", "whitespace-pre-wrap"}
_PROSE_TAGS = {"p", "pre", "code", "span", "ol", "ul", "li", "strong", "em", "b", "i", "del", "br", "hr", "blockquote"}
_PROSE_TAGS |= {"a", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "sup", "sub"}
_PROSE_ATTRIBUTES = {"class", "href", "target", "rel", "start", "align"}
_VOID_TAGS = {"br", "hr", "img"}
_ABOUT_HTML = re.compile(r"\bhtml|\bweb ?(page|site)|\bmarkup\b|\btags?\b|<\w", re.IGNORECASE)
_MAX_DEPTH = 100


def _chat_page_messages(turns: tuple[Turn, ...], texts: list[str]) -> list[int]:
    """The places of the messages that are the chat page's HTML.

    HTML can also be what was asked for. So either the page's own classes are in it, or every answer is bare prose in
    HTML though no question is about HTML. Where one message is the page's, the dialogue's other documents are too.
    """
    outlines = [_outline(text) for text in texts]
    found = [place for place, outline in enumerate(outlines) if outline]
    if any(outline and outline.classes & _PAGE_CLASSES for outline in outlines):
        return found
    for turn, text, outline in zip(turns, texts, outlines, strict=True):
        if turn.role == "assistant" and not (outline and outline.is_prose):
            return []
        if turn.role == "user" and not outline and _ABOUT_HTML.search(text):
            return []
    return found if any(turns[place].role == "assistant" for place in found) else []


class _Outline(HTMLParser):
    """What a text is made of, and whether it is one piece of balanced HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.classes: set[str] = set()
        self.attributes: set[str] = set()
        self.whole = True
        self.indented = False

    @property
    def is_prose(self) -> bool:
        """Bare prose as a browser writes it; a person, or a model that is asked for code, indents tags."""
        return not self.indented and self.tags <= _PROSE_TAGS and self.attributes <= _PROSE_ATTRIBUTES

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag; deeper ones than any page has are refused, since converters recurse."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.classes.update(name for key, value in attrs if key == "class" for name in (value or "").split())
        if tag not in _VOID_TAGS:
            self.open.append(tag)
        self.whole &= len(self.open) <= _MAX_DEPTH

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """``<path/>`` opens nothing."""
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        """The tag that was opened last must close first."""
        self.whole &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text must stand inside a tag."""
        blank = not data.strip()
        self.whole &= blank or bool(self.open)
        self.indented |= blank and "\n" in data and data[-1] in " \t" and "pre" not in self.open


def _outline(text: str) -> _Outline | None:
    if not _BEGIN.match(text) or not _END.search(text) or _DECLARATION.search(text):
        return None
    outline = _Outline()
    outline.feed(text)
    outline.close()
    return outline if outline.whole and not outline.open else None


def _to_markdown(html: str) -> str:
    """HTML → Markdown; text in wrappers alone is taken as it stands."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(html, "html.parser")
    for button in page(["button", "svg"]):
        button.decompose()
    for formula in page("span", class_="katex"):
        if source := formula.find("annotation"):
            formula.replace_with(f"${source.get_text()}$")
    if {tag.name for tag in page(True)} <= {"div", "span", "br"}:
        for tag in page(["div", "br"]):
            tag.append("\n")
        text = page.get_text()
    else:
        text = _converter().convert_soup(page)
    # A text that begins with a tag written out would be taken for HTML when it is next read.
    return f"\\{text.lstrip()}" if _BEGIN.match(text) else text


@cache
def _converter() -> MarkdownConverter:
    from markdownify import MarkdownConverter

    class Converter(MarkdownConverter):
        """Code blocks are fenced with their language, the code as it stands."""

        def convert_pre(self, el: Any, text: str, parent_tags: set[str]) -> str:
            code = el.find("code") or el
            named = re.search(r"\blanguage-([\w+#.-]+)", " ".join(code.get("class") or []))
            header = "".join(string for string in el.strings if code not in string.parents).strip()
            language = named[1] if named else header if re.fullmatch(r"[\w+#.-]+", header) else ""
            source = code.get_text().rstrip("\n")
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source)), default=0))
            return f"\n\n{fence}{language}\n{source}\n{fence}\n\n"

    return Converter(heading_style="ATX", bullets="-", escape_asterisks=False, escape_underscores=False)


# What is left of the dialogue.


def _alternate(turns: list[Turn], made: set[str]) -> tuple[Turn, ...]:
    """The turns without empty ones, as a dialogue that begins with the user, alternates and ends with the assistant."""
    joined: list[Turn] = []
    for turn in turns:
        if not turn.text:
            made.add(EMPTY)
        elif joined and joined[-1].role == turn.role:
            made.add(JOINED)
            marked = turn if turn.learn else joined[-1]
            joined[-1] = replace(marked, text=f"{joined[-1].text}\n\n{turn.text}")
        elif joined or turn.role == "user":
            joined.append(turn)
        else:
            made.add(OPENING)
    if joined and joined[-1].role == "user":
        made.add(CLOSING)
        joined.pop()
    if not joined:
        raise RowRejected("no exchange of a user and an assistant")
    if any(turn.learn for turn in turns) and not any(turn.learn for turn in joined):
        raise RowRejected("no answer left to learn from")
    return tuple(joined)
