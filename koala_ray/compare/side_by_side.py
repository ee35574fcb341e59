"""A short page: the base model's answers beside the tuned one's, with the loss curve. One file, no scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from koala_ray.records import Answer

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem;margin-bottom:.2rem} .about{color:#555;margin-top:0}
table.figures{border-collapse:collapse;margin:1rem 0} .figures td{padding:.15rem 1.2rem .15rem 0}
.figures td+td{font-variant-numeric:tabular-nums} img{max-width:100%}
.prompt{font-weight:600;margin:2rem 0 .5rem;white-space:pre-wrap}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
.answer{border:1px solid #ddd;border-radius:.4rem;padding:.7rem .9rem;white-space:pre-wrap;overflow-wrap:anywhere}
.answer.tuned{border-color:#4c72b0} .name{font-size:.8rem;color:#666;margin-bottom:.3rem}
@media(max-width:45rem){.pair{grid-template-columns:1fr}}
"""


def page(
    title: str,
    about: str,
    figures: Mapping[str, Any],
    curve: bytes,
    base: Sequence[Answer],
    tuned: Sequence[Answer],
) -> str:
    """The page as HTML.

    Args:
        title: the recipe's name.
        about: a sentence on it.
        figures: names and values for the table at the top.
        curve: the loss curve as PNG.
        base: the base model's answers.
        tuned: the tuned model's answers to the same prompts.

    Raises:
        ValueError: the answers are not to the same prompts.
    """
    if [answer.id for answer in base] != [answer.id for answer in tuned]:
        raise ValueError("the two models answered different prompts")
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in figures.items())
    pairs = "".join(
        f'<div class="prompt">{_text(left.prompt)}</div><div class="pair">'
        f"{_answer(left, 'base')}{_answer(right, 'tuned')}</div>"
        for left, right in zip(base, tuned, strict=True)
    )
    picture = base64.b64encode(curve).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f'<h1>{_text(title)}</h1><p class="about">{_text(about)}</p><table class="figures">{rows}</table>'
        f'<img alt="loss curve" src="data:image/png;base64,{picture}">{pairs}</html>\n'
    )


def _answer(answer: Answer, kind: str) -> str:
    end = {"stop": "ended by itself", "length": "cut at the token limit", "failed": "failed"}[answer.finish]
    text = answer.error if answer.finish == "failed" else answer.answer
    head = f'<div class="name">{kind} · {answer.tokens} tokens, {end}</div>'
    return f'<div class="answer {kind}">{head}{_text(text)}</div>'


def _text(value: object) -> str:
    return html.escape(str(value))
