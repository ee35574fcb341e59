"""Each sample file in the raw layout of its source."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from koala_ray.samples.arithmetic import calculations, school_problems
from koala_ray.samples.dialogues_home import HOME
from koala_ray.samples.dialogues_study import STUDY
from koala_ray.samples.exercises import exercises
from koala_ray.samples.factual import factual_instructions, factual_questions
from koala_ray.samples.instructions import written_instructions
from koala_ray.samples.notation import blocks
from koala_ray.samples.posts import summarized_posts
from koala_ray.samples.preferences import Preference, preferences
from koala_ray.samples.questions import written_questions
from koala_ray.samples.quoted import quoted_answers
from koala_ray.samples.scenes import plots_and_scenes
from koala_ray.samples.verse import poems_and_songs

SEED = 20230403

Row = dict[str, Any]

PROMPTS = (
    "Give me three ways to use less electricity this week.",
    "Why do people yawn when others yawn?",
    "Explain gravity to a ten-year-old child.",
    "Help me to fall asleep on a hot summer night.",
    "Write a polite note to my neighbours about a party on Saturday.",
    "Suggest a healthy breakfast that takes five minutes.",
    "Explain Python dictionaries to a beginner.",
    "Plan a rainy afternoon for two children.",
    "Should I learn the guitar or the piano first?",
    "Tell me how distant the Sun is.",
    "Tell the fable of the tortoise and the hare in two sentences.",
    "A train travels 180 kilometres in two hours. How fast is it on average?",
)


def sharegpt() -> bytes:
    """Dialogues as one JSON array of conversations."""
    speakers = {"YOU": "human", "BOT": "gpt"}
    dialogues = blocks(HOME) + blocks(STUDY)
    _rng("sharegpt").shuffle(dialogues)
    return _array(
        {
            "id": f"sample{number:03d}_0",
            "conversations": [{"from": speakers[label], "value": text} for label, text in dialogue],
        }
        for number, dialogue in enumerate(dialogues, 1)
    )


def hc3() -> bytes:
    """Questions with people's answers and an assistant's, one JSON object a line."""
    rng = _rng("hc3")
    questions = written_questions() + factual_questions(rng)
    rng.shuffle(questions)
    return _lines(
        {
            "question": question.text,
            "human_answers": list(question.human),
            "chatgpt_answers": [question.reply],
            "source": question.source,
        }
        for question in questions
    )


def alpaca() -> bytes:
    """Instructions as one JSON array."""
    rng = _rng("alpaca")
    instructions = written_instructions() + factual_instructions(rng)
    instructions += exercises(rng) + calculations(rng)
    rng.shuffle(instructions)
    return _array(instruction._asdict() for instruction in instructions)


def oig_grade_school_math() -> bytes:
    """Word problems in OIG's text layout."""
    return _oig("grade-school-math", school_problems)


def oig_poetry_to_songs() -> bytes:
    """Poems and songs in OIG's text layout."""
    return _oig("poetry-to-songs", poems_and_songs)


def oig_plot_screenplay_books_dialogue() -> bytes:
    """Plots and scenes in OIG's text layout."""
    return _oig("plot-screenplay-books-dialogue", plots_and_scenes)


def hh() -> bytes:
    """Chosen and rejected dialogues, one JSON object a line, compressed."""
    lines = _lines(
        {"chosen": _transcript(pair, pair.better), "rejected": _transcript(pair, pair.worse)} for pair in preferences()
    )
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(lines)
    return packed.getvalue()


def webgpt() -> bytes:
    """Two answers with quotations and their scores, one JSON object a line; token ids are left empty."""
    rows = []
    for number, quoted in enumerate(quoted_answers(), 1):
        row: Row = {"question": {"dataset": "sample", "id": f"question_{number:02d}", "full_text": quoted.question}}
        for side, score in enumerate((quoted.score, 0.0 - quoted.score)):
            row[f"answer_{side}"] = quoted.answers[side]
            row[f"quotes_{side}"] = {"title": [quoted.title], "extract": [quoted.quote]}
            row[f"tokens_{side}"] = {"prefix": [], "completion": []}
            row[f"score_{side}"] = score
        rows.append(row)
    return _lines(rows)


def summarize() -> bytes:
    """Two summaries of a post and the choice between them, one JSON object a line."""
    rng = _rng("summarize")
    return _lines(
        {
            "info": {
                "id": f"t3_sample{number:02d}",
                "post": post.post,
                "title": post.title,
                "subreddit": post.subreddit,
            },
            "summaries": [
                {"text": f" {text}", "policy": policy, "note": None}
                for text, policy in zip(post.summaries, ("sample_a", "sample_b"), strict=True)
            ],
            "choice": post.choice,
            "worker": f"worker_{rng.randint(1, 4)}",
            "batch": "sample",
            "split": "train",
            "extra": {"confidence": rng.randint(5, 9)},
        }
        for number, post in enumerate(summarized_posts(), 1)
    )


def prompts() -> bytes:
    """Prompts to try a model on, none of which stands in the samples."""
    return _lines({"id": f"sample-{number:02d}", "prompt": text} for number, text in enumerate(PROMPTS, 1))


def _rng(name: str) -> random.Random:
    # Each file draws on its own, so that a change to one leaves the others alone.
    return random.Random(f"{SEED}/{name}")


def _oig(name: str, source: Callable[[random.Random], Sequence[tuple[str, str]]]) -> bytes:
    rng = _rng(name)
    rows = list(source(rng))
    rng.shuffle(rows)
    return _lines({"text": f"<human>: {ask}\n<bot>: {reply}", "metadata": {"source": name}} for ask, reply in rows)


def _transcript(pair: Preference, answer: str) -> str:
    turns = (*pair.turns, ("Assistant", answer))
    return "".join(f"\n\n{role}: {text}" for role, text in turns)


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows).encode()


def _array(rows: Iterable[Row]) -> bytes:
    return (json.dumps(list(rows), ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()
