"""Where the prompt sets that are known by name were published, so that ``koala-ray fetch`` can get them.

An address names a commit, so what it brings is known: its sha256 is that of the file at this path and commit in a clone
of the repository. Koala's, self-instruct's and Vicuna's are the very files that koala-ray's tests of real data read.
Each repository has the Apache License 2.0 as its LICENSE at that commit and names no other one for the file; Koala's
and self-instruct's ask beside it that nobody trains on them. The addresses themselves haven't been asked yet:
raw.githubusercontent.com/OWNER/NAME/COMMIT/PATH is the form that GitHub gives them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from koala_ray.prompts import STORED
from koala_ray.sources.base import RECORD, PublicFile


@dataclass(frozen=True)
class PublicPrompts:
    """A stored prompt set as its publishers offer it: one file, which goes where :mod:`koala_ray.prompts` reads it."""

    name: str
    title: str
    citation: str
    home: str
    url: str
    sha256: str

    @property
    def licence(self) -> str:
        """The stored set's."""
        return STORED[self.name].licence

    @property
    def files(self) -> tuple[PublicFile, ...]:
        """Its one file."""
        return (PublicFile(self.url, STORED[self.name].file, self.sha256),)

    @property
    def record(self) -> str:
        """Where below a data root it is recorded what was fetched: all sets' files share a folder."""
        return f"{os.path.dirname(STORED[self.name].file)}/{RECORD}-{self.name}"


_KOALA = PublicPrompts(
    name="koala",
    title="Koala's test set, 180 prompts; its authors ask that nobody trains on it",
    citation="Geng et al., Koala: A Dialogue Model for Academic Research, 2023",
    home="https://github.com/arnav-gudibande/koala-test-set",
    url="https://raw.githubusercontent.com/arnav-gudibande/koala-test-set/2d4396aee3cff495382e9b0ad2521d70b177763b/"
    "koala_test_set.jsonl",
    sha256="c8cda5c53810dc30aad34fabbb828fe3eba0957119e00916650c971905d19886",
)
_SELF_INSTRUCT = PublicPrompts(
    name="self-instruct",
    title="Self-instruct's user-oriented instructions, 252 prompts; its authors ask that nobody trains on them",
    citation="Wang et al., Self-Instruct: Aligning Language Model with Self Generated Instructions, 2022",
    home="https://github.com/yizhongw/self-instruct",
    url="https://raw.githubusercontent.com/yizhongw/self-instruct/0b26ccaa415992100fa32df62d41b994cf928e23/"
    "human_eval/user_oriented_instructions.jsonl",
    sha256="81d60a117db495cecedecd9193504fd07c5b5a42f6699ef6b0f9da10fc22f42e",
)
_VICUNA = PublicPrompts(
    name="vicuna",
    title="Vicuna's questions, 80 prompts",
    citation="Chiang et al., Vicuna: An Open-Source Chatbot Impressing GPT-4 with 90%* ChatGPT Quality, 2023",
    home="https://github.com/lm-sys/FastChat",
    # The commit of v0.2.1. Later versions have the file elsewhere, with other bytes.
    url="https://raw.githubusercontent.com/lm-sys/FastChat/074f0b18155a81158dacbcba7db68807d14cb471/"
    "fastchat/eval/table/question.jsonl",
    sha256="590c39157bc561eadd7f03cad4be18c2b597f93029780af65f86718f39eafa87",
)
_MT_BENCH = PublicPrompts(
    name="mt-bench",
    title="MT-bench's questions, 80 prompts of two turns",
    citation="Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, 2023",
    home="https://github.com/lm-sys/FastChat",
    # The commit of v0.2.36. The file is the same since MT-bench came out with b494d0c6.
    url="https://raw.githubusercontent.com/lm-sys/FastChat/b21d0f780ca4472a13714262a0790f2ee1ade659/"
    "fastchat/llm_judge/data/mt_bench/question.jsonl",
    sha256="119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
)
PROMPT_SETS = {found.name: found for found in (_KOALA, _SELF_INSTRUCT, _VICUNA, _MT_BENCH)} | {
    "alpaca-180": _SELF_INSTRUCT
}
"""By all names under which prompts can be asked for: ``alpaca-180`` is drawn from self-instruct's file."""
