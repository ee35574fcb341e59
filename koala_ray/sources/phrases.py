"""Task phrases: how a post is put to be summarized, and a question with quotations to be answered.

Which one goes with a text depends on the data seed and that text alone, so that both sides of a comparison
are asked in the same words, on every machine and in whatever order rows are read.
"""

from __future__ import annotations

from hashlib import blake2b

SUMMARIZE = (
    "Summarize this text in one or two sentences:\n\n{post}",
    "Write a short summary of what follows.\n\n{post}",
    "Please sum up the text below in a few words.\n\n{post}",
    "What is this about? Keep it to a sentence or two.\n\n{post}",
    "Read the following and tell me the main point.\n\n{post}",
    "I have no time to read all of this. Can you shorten it for me?\n\n{post}",
    "Give me the gist of this text:\n\n{post}",
    "Put the following into a brief summary for somebody who hasn't read it:\n\n{post}",
    "{post}\n\nSummarize the text above briefly.",
    "{post}\n\nWhat does the author say, in short?",
    "{post}\n\nTL;DR please.",
    "{post}\n\nCan you condense that into a sentence or two?",
    "{post}\n\nWrite a summary of this that leaves out the details.",
)
"""Each holds ``{post}`` once. They fit a forum post and a news article alike."""

ANSWER_FROM_QUOTES = (
    "{question}\n\nBase your answer on these quotations and cite them by their numbers:\n\n{quotes}",
    "{question}\n\nThese passages may help you. Say which of them you rely on:\n\n{quotes}",
    "{question}\n\nSupport what you say with the sources below.\n\n{quotes}",
    "{question}\n\nHere is what I found about it. Please refer to it in your answer:\n\n{quotes}",
    "{question}\n\nSources:\n\n{quotes}",
    "{question}\n\nPlease answer with the help of these excerpts, with a number after each claim:\n\n{quotes}",
    "Read these excerpts from the web:\n\n{quotes}\n\nNow answer with references to them: {question}",
    "I collected some passages:\n\n{quotes}\n\nWhat do they say about this question? {question}",
    "Given the following sources, answer the question below and cite them.\n\n{quotes}\n\nQuestion: {question}",
    "{quotes}\n\nWith the quotations above as evidence, answer this: {question}",
    "{quotes}\n\nUse these numbered sources where they help. {question}",
    "Here are numbered quotations:\n\n{quotes}\n\nAnswer from them and give the numbers: {question}",
)
"""Each holds ``{question}`` and ``{quotes}`` once."""


def choose(phrases: tuple[str, ...], seed: int, text: str) -> str:
    """The phrase that goes with a text under a seed."""
    # Texts may hold half characters: such a row is rejected later on, with its reason.
    key = f"{seed}\n{text}".encode("utf-8", "surrogatepass")
    return phrases[int.from_bytes(blake2b(key, digest_size=8).digest(), "big") % len(phrases)]
