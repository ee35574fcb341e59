"""Which evaluation prompts a user's turn comes too near to: BLEU above a limit, with exactly sacrebleu's verdicts.

Hypothesis is the evaluation prompt, reference the turn; BLEU is sacrebleu's ``sentence_bleu`` with its defaults
(tokenizer 13a, exponential smoothing, effective order; Post, "A Call for Clarity in Reporting BLEU Scores", 2018).
Scoring every pair would take a day and more. Four facts leave about one pair in a thousand, which is scored in full:

1. Clipped matches fall with the order. An (n+1)-gram's clipped count is the smaller of two counts, and summed over
   the last token neither exceeds its own text's count of the first n tokens: m₄ ≤ m₃ ≤ m₂ ≤ m₁. Nor can an
   order have more matches than either text has n-grams: mₙ ≤ min(c, r) - n + 1 for c tokens against r.
2. BLEU rises with every mₙ. Where an order has no match, smoothing puts 1/2ᵏ in its place, and as the orders
   without a match are the last ones, one match more there raises its own precision and shrinks no other's.
3. By 1 and 2 a pair with k matches of order n scores at most what sacrebleu makes of the largest counts that 1 allows
   (:func:`_ceiling`), so the limit asks for a least k, and for most prompts of a dozen tokens or more it is at least
   one trigram. Few turns share one with a prompt, and those that do are found by looking up the turn's n-grams; most
   of them are ruled out in turn by the words that they share.
4. BLEU is at most 100 times the brevity penalty exp(1 - r/c): a turn of more than c·(1 - ln(limit/100)) tokens is out.

What counts as a prompt here is one turn: a prompt of several is contaminated where any of them is hit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from functools import cache, lru_cache, partial
from itertools import chain

from koala_ray.errors import KoalaError
from koala_ray.prompts import Prompt, PromptSet

MAX_ORDER = 4
INDEXED_ORDER = 3
"""The highest order that is looked up: prompts that need a 4-gram are few, and need several trigrams as well."""
SLACK = 1e-9
"""The part of the limit by which a bound must miss it to rule a pair out: far above what rounding does to a score."""
CACHED_WORDS = 2**17
CACHED_WORD_LENGTH = 64
CUT_TOKENS = 64
"""More than the tokens that the start of a text can have beyond the whole; see :meth:`Contamination._too_long`."""
CHARACTERS_PER_TOKEN = 16
"""A turn with more characters than this for each token allowed is looked at from its start."""

Gram = tuple[str, ...]


def texts_of(sets: Sequence[PromptSet]) -> tuple[str, ...]:
    """All that the user says in some prompt sets: set by set, prompt by prompt, turn by turn."""
    return tuple(turn for found in sets for prompt in found.prompts for turn in prompt.turns)


def prompts_left(sets: Sequence[PromptSet], hit: Set[int]) -> Iterator[tuple[PromptSet, list[Prompt]]]:
    """Each set with those of its prompts of which no turn was hit.

    Args:
        sets: the prompt sets.
        hit: places in :func:`texts_of` of the same sets.
    """
    first = 0
    for found in sets:
        left: list[Prompt] = []
        for prompt in found.prompts:
            places = range(first, first + len(prompt.turns))
            first = places.stop
            if hit.isdisjoint(places):
                left.append(prompt)
        yield found, left


class Contamination:
    """An index over evaluation prompts that tells which of them a text comes too near to.

    Args:
        prompts: the evaluation prompts.
        limit: BLEU in per cent, between 0 and 100; a score above it is a hit.

    Raises:
        KoalaError: the limit is out of range.
    """

    def __init__(self, prompts: Sequence[str], limit: float = 20.0) -> None:
        if not 0 < limit < 100:
            raise KoalaError(
                "the BLEU limit is not between 0 and 100", where=str(limit), mend="20 is what Koala's authors chose"
            )
        self._prompts = tuple(prompts)
        self._limit = limit
        tokens = [tokenize(prompt) for prompt in self._prompts]
        self._lengths = [len(words) for words in tokens]
        self._words = [Counter(words) for words in tokens]
        self._grams = [count_ngrams(words) for words in tokens]
        self._longest_turn = math.ceil(max(self._lengths, default=0) * (1 + math.log(100) - math.log(limit))) + 1
        self._orders = [_indexed_order(length, limit) for length in self._lengths]
        # For each order: n-gram → prompts that hold it, each as often as it does.
        self._postings: dict[int, dict[Gram, list[int]]] = {}
        for prompt, (order, grams) in enumerate(zip(self._orders, self._grams, strict=True)):
            for gram, count in grams.items():
                if len(gram) == order:
                    self._postings.setdefault(order, {}).setdefault(gram, []).extend([prompt] * count)

    def __reduce__(self) -> tuple[object, ...]:
        # The index is many times the prompts' size, and made anew in a moment where it is unpickled.
        return Contamination, (self._prompts, self._limit)

    def hits(self, turn: str) -> tuple[int, ...]:
        """The places of all prompts whose BLEU against the turn exceeds the limit, ascending."""
        if self._too_long(turn):
            return ()
        tokens = tokenize(turn)
        shared = [
            postings[gram]
            for order, postings in self._postings.items()
            for gram in postings.keys() & _ngrams(tokens, order)
        ]
        if not shared:
            return ()
        found: list[int] = []
        needed = self._limit * (1 - SLACK)
        words: frozenset[str] = frozenset()
        grams: Counter[Gram] = Counter()
        # A shared n-gram counts as often as the prompt holds it: at least its clipped matches.
        for prompt, matches in Counter(chain.from_iterable(shared)).items():
            length, order = self._lengths[prompt], self._orders[prompt]
            if _ceiling(length, len(tokens), length, order, matches) <= needed:
                continue
            words = words or frozenset(tokens)
            own_words = self._words[prompt]
            shared_words = sum([own_words[word] for word in own_words.keys() & words])
            if _ceiling(length, len(tokens), shared_words, order, matches) <= needed:
                continue
            grams = grams or count_ngrams(tokens)
            if _score(self._grams[prompt], length, grams, len(tokens)) > self._limit:
                found.append(prompt)
        return tuple(sorted(found))

    def _too_long(self, turn: str) -> bool:
        """Whether a turn is too long for every prompt, told from as little of it as need be.

        The start of a text has hardly more tokens than the whole: 13a goes from left to right and looks one character
        ahead, and only at the cut can the start keep what the whole text loses, an unfinished ``<skipped>``, ``-\\n``
        or entity: fewer than 20 characters in all, of which each is one token at most.
        """
        size = CHARACTERS_PER_TOKEN * self._longest_turn
        while size < len(turn):
            if len(tokenize(turn[:size])) > self._longest_turn + CUT_TOKENS:
                return True
            size *= 4
        return False


def bleu(prompt: str, turn: str) -> float:
    """``sacrebleu.sentence_bleu(prompt, [turn]).score``, 0 to 100, to the last bit."""
    prompt_tokens, turn_tokens = tokenize(prompt), tokenize(turn)
    return _score(count_ngrams(prompt_tokens), len(prompt_tokens), count_ngrams(turn_tokens), len(turn_tokens))


def tokenize(text: str) -> list[str]:
    """The tokens that sacrebleu's 13a tokenizer gives, each distinct word being tokenized once.

    13a first deletes ``<skipped>`` and then ``-\\n``. All that follows stays within a word between white space: it
    replaces entities, which hold none, and puts spaces beside a character for what the character or its neighbour
    is, where white space as the neighbour does what the space does that 13a puts around the whole text.
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "")
    # A "<skipped>" that the deletions left behind must not be deleted within its word. 13a splits after "<" anyway.
    text = text.replace("<skipped>", "< skipped>")
    return list(chain.from_iterable(map(_WORDS.__getitem__, text.split())))


def count_ngrams(tokens: Sequence[str]) -> Counter[Gram]:
    """How often each n-gram of the orders 1 to 4 occurs."""
    return Counter(chain.from_iterable(_ngrams(tokens, order) for order in range(1, MAX_ORDER + 1)))


def _ngrams(tokens: Sequence[str], order: int) -> Iterator[Gram]:
    return zip(*(tokens[start:] for start in range(order)), strict=False)


class _Words(dict[str, tuple[str, ...]]):
    """Word → its tokens, for the words met lately. Long ones are not kept: they hardly come twice."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        tokens = tuple(_tokenizer_13a()(word).split())
        if len(word) <= CACHED_WORD_LENGTH:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = tokens
        return tokens


_WORDS = _Words()


@cache
def _tokenizer_13a() -> Callable[[str], str]:
    # Without sacrebleu's own two caches, which would hold the last 65,536 texts of whatever length.
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    tokenizer = Tokenizer13a()
    tokenizer._post_tokenizer = partial(TokenizerRegexp.__call__.__wrapped__, TokenizerRegexp())  # type: ignore[assignment]
    return partial(Tokenizer13a.__call__.__wrapped__, tokenizer)


def _score(prompt_grams: Counter[Gram], prompt_length: int, turn_grams: Counter[Gram], turn_length: int) -> float:
    matches = [0] * MAX_ORDER
    for gram in prompt_grams.keys() & turn_grams.keys():
        matches[len(gram) - 1] += min(prompt_grams[gram], turn_grams[gram])
    return _score_of_matches(matches, prompt_length, turn_length)


def _score_of_matches(matches: list[int], prompt_length: int, turn_length: int) -> float:
    from sacrebleu.metrics.bleu import BLEU

    totals = [max(0, prompt_length - below) for below in range(MAX_ORDER)]
    lengths = {"sys_len": prompt_length, "ref_len": turn_length}
    return BLEU.compute_bleu(matches, totals, **lengths, smooth_method="exp", effective_order=True).score


@lru_cache(maxsize=2**16)
def _ceiling(prompt_length: int, turn_length: int, shared_words: int, order: int, matches: int) -> float:
    """The highest score of a pair with at most so many matches of one order.

    ``shared_words`` are the prompt's tokens that the turn has as well, however often. An n-gram matches only where it
    consists of such tokens, so there are at most ``shared_words - n + 1`` matches.
    """
    most = [max(0, min(prompt_length, turn_length, shared_words) - below) for below in range(MAX_ORDER)]
    lower, higher = most[: order - 1], most[order - 1 :]
    return _score_of_matches([*lower, *(min(matches, count) for count in higher)], prompt_length, turn_length)


def _indexed_order(length: int, limit: float) -> int:
    """The highest order of which a hit on a prompt of this length has a match, whatever the turn.

    A turn of the prompt's own length is the worst case: a shorter one has fewer matches, a longer one is penalized.
    """
    orders = range(min(INDEXED_ORDER, length), 0, -1)
    return next((order for order in orders if _ceiling(length, length, length, order, 0) <= limit * (1 - SLACK)), 1)
