"""The curves as a page: figures, a table of each run's facts, incidents, sampled answers. One file, no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koala_ray import pages
from koala_ray.pages import compact, escaped, number, plural
from koala_ray.progress import clock
from koala_ray.train.curves.panels import COLOURS, COURSE, LOSS, Panel, group_panels, looks
from koala_ray.train.curves.picture import NARROW, SMALL, WIDE, curves_svg
from koala_ray.train.curves.runs import Runs, last_figures, of_kind

OWN_STYLE = """
figure.loss{max-width:56rem}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1.5rem}
.panels.small{grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:1rem} .panels figure{max-width:none}
.panels.small figcaption{margin-bottom:.2rem;color:var(--ink)} .panels.small small{color:var(--faint);display:block}
ul.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.4rem 1.6rem;margin:1rem 0}
.swatch{display:inline-block;width:1.2rem;height:.3rem;border-radius:.15rem;margin-right:.5rem;vertical-align:.2em}
.prompt{font-weight:600;margin:1.6rem 0 .5rem;max-width:none}
.answers{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.answer{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem} .answer small{color:var(--faint)}
.prompt,.answer div,td.answer-text{white-space:pre-wrap;overflow-wrap:anywhere} td.answer-text{text-align:left}
"""
SHOWN_ROWS = 8
"""Rows and examples of an incident that are named; the record has all of them."""


def curves_page(runs: Runs) -> str:
    """The page as HTML; equal records give equal text.

    Args:
        runs: each run's records (``metrics.jsonl``) under its name.
    """
    figures = {name: last_figures(records) for name, records in runs.items()}
    title = next(iter(runs)) if len(runs) == 1 else f"{len(runs)} runs"
    body = (
        f"<h1>{escaped(title)}</h1>{_about(figures)}{_legend(runs)}{_loss(runs, figures)}{_groups(runs, figures)}"
        f"{_course(runs)}{_facts(figures)}{_incidents(runs)}{_samples(runs)}"
    )
    return pages.document(title, body, style=OWN_STYLE, colours={**COLOURS, "accent": COLOURS["run-0"]})


def _about(figures: Mapping[str, Mapping[str, Any]]) -> str:
    said = [
        f"{plural(of_run['steps'], 'step')}, {compact(of_run['tokens'])} tokens of which "
        f"{compact(of_run['learnt_tokens'])} learnt, on {of_run['device'] or 'an unknown device'}"
        for of_run in figures.values()
    ]
    return f'<p class="about">{escaped(said[0])}.</p>' if len(said) == 1 else ""


def _legend(runs: Runs) -> str:
    if len(runs) == 1:
        return ""
    items = "".join(f"<li>{_swatch(runs, name)}{escaped(name)}</li>" for name in runs)
    return f'<ul class="legend">{items}</ul>'


def _swatch(runs: Runs, name: str) -> str:
    """A stroke in a run's colour, where there are several."""
    colour = looks(runs)[name].colour
    return f'<span class="swatch" style="background:var(--{colour})"></span>' if len(runs) > 1 else ""


def _loss(runs: Runs, figures: Mapping[str, Mapping[str, Any]]) -> str:
    said = "; ".join(
        f"{name}: training {_change(of_run['loss_first'], of_run['loss_last'])}, "
        f"held out {_change(of_run['heldout_loss_first'], of_run['heldout_loss_last'])}"
        for name, of_run in figures.items()
    )
    note = "Crosses are incidents, dotted lines restarts; a spike above the rest is cut off at the upper edge."
    figure = _figure(LOSS, runs, WIDE, f"Loss over the steps. {said}.", ' class="loss"')
    return f'<h2>Loss</h2>{figure}<p class="note">{note}</p>'


def _groups(runs: Runs, figures: Mapping[str, Mapping[str, Any]]) -> str:
    shown = []
    for panel in group_panels(runs):
        changes = {
            name: _change(*of_run["heldout_groups"][panel.title])
            for name, of_run in figures.items()
            if panel.title in of_run["heldout_groups"]
        }
        said = "; ".join(f"{name}: {change}" for name, change in changes.items())
        svg = curves_svg(panel, runs, SMALL, f"Held-out loss of {panel.title}. {said}.")
        beside = "".join(f"<small>{_swatch(runs, name)}{change}</small>" for name, change in changes.items())
        caption = f"{escaped(panel.title)} {beside}"
        shown.append(f"<figure><figcaption>{caption}</figcaption>{svg}</figure>")
    if not shown:
        return ""
    note = "The same height is the same change in all of them; a group is a source and the marker of its answers."
    return (
        f'<h2>Held-out loss by source and marker</h2><div class="panels small">{"".join(shown)}</div>'
        f'<p class="note">{note}</p>'
    )


def _course(runs: Runs) -> str:
    shown = "".join(_figure(panel, runs, NARROW, panel.title) for panel in COURSE)
    return f'<h2>Course</h2><div class="panels">{shown}</div>'


def _figure(panel: Panel, runs: Runs, size: tuple[float, float], label: str, kind: str = "") -> str:
    svg = curves_svg(panel, runs, size, label)
    return f"<figure{kind}><figcaption>{escaped(panel.title)}</figcaption>{svg}</figure>"


def _facts(figures: Mapping[str, Mapping[str, Any]]) -> str:
    facts: dict[str, list[str]] = {}
    for of_run in figures.values():
        trained, parameters = of_run["trained_parameters"], of_run["parameters"]
        all_of_them = parameters if trained == parameters else f"{_count(trained)} of {_count(parameters)}"
        wait, mfu = of_run["data_wait"], of_run["mfu"]
        for name, value in {
            "steps": number(of_run["steps"]),
            "training loss": _change(of_run["loss_first"], of_run["loss_last"]),
            "held-out loss": _change(of_run["heldout_loss_first"], of_run["heldout_loss_last"]),
            "tokens": number(of_run["tokens"]),
            "learnt tokens": number(of_run["learnt_tokens"]),
            "tokens per second": f"{of_run['tokens_per_second']:,.0f}" if of_run["tokens_per_second"] else "–",
            "MFU": f"{100 * mfu:.1f} %" if mfu else "–",
            "time in steps and evaluations": clock(of_run["seconds"]),
            "waiting for rows": f"{100 * wait:.2f} % of the steps" if wait is not None else "–",
            "waiting for checkpoints": f"{of_run['checkpoint_stall']:,.1f} s",
            "restarts": number(of_run["restarts"]),
            "incidents": number(of_run["incidents"]),
            "workers": _count(of_run["workers"]),
            "device": of_run["device"] or "–",
            "trained parameters": _count(all_of_them),
        }.items():
            facts.setdefault(name, []).append(value)
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in figures)
    rows = "".join(
        f'<tr><th scope="row" class="words">{name}</th>{"".join(f"<td>{escaped(value)}</td>" for value in values)}</tr>'
        for name, values in facts.items()
    )
    return f"<h2>Figures</h2>{pages.wide('What came of it, first → last', f'<th></th>{head}', rows)}"


def _incidents(runs: Runs) -> str:
    rows = "".join(
        f'<tr><th scope="row" class="words">{escaped(name)}</th><td>{number(record["step"])}</td>'
        f'<td class="words">{escaped(record["what"])}: {escaped(record["action"])}</td>'
        f"<td>{_loss_of(record['loss'])}</td><td>{_loss_of(record['grad_norm'])}</td>"
        f'<td class="words">{_listed(record["rows"])}</td>'
        f'<td class="words">{_listed(record["examples"])}</td></tr>'
        for name, records in runs.items()
        for record in of_kind(records, "incident")
    )
    if not rows:
        return ""
    names = ("run", "step", "what", "loss", "gradient norm", "rows", "examples")
    words = {"run", "what", "rows", "examples"}
    head = "".join(f'<th scope="col"{" class=words" if name in words else ""}>{name}</th>' for name in names)
    return f"<h2>Incidents</h2>{pages.wide('Steps that a guard judged', head, rows)}"


def _samples(runs: Runs) -> str:
    """For each prompt the first and the last answer of each run, and all of them to be opened."""
    answers: dict[str, list[tuple[str, int, str]]] = {}
    for name, records in runs.items():
        for record in of_kind(records, "evaluation"):
            for sample in record["samples"]:
                answers.setdefault(sample["prompt"], []).append((name, record["step"], sample["answer"]))
    shown = "".join(_sample(prompt, given, len(runs) > 1) for prompt, given in answers.items())
    return f"<h2>Sampled answers</h2>{shown}" if shown else ""


def _sample(prompt: str, given: Sequence[tuple[str, int, str]], several_runs: bool) -> str:
    ends = [
        answer
        for run in dict.fromkeys(name for name, _, _ in given)
        for of_run in [[answer for answer in given if answer[0] == run]]
        for answer in dict.fromkeys((of_run[0], of_run[-1]))
    ]
    cards = "".join(
        f'<div class="answer"><small>{_when(run if several_runs else "", step)}</small><div>{_lines(text)}</div></div>'
        for run, step, text in ends
    )
    rest = "".join(
        f'<tr><th scope="row" class="words">{_when(run if several_runs else "", step)}</th>'
        f'<td class="answer-text">{_lines(text)}</td></tr>'
        for run, step, text in given
    )
    opened = (
        f"<details><summary>All {len(given)} answers</summary><table><tbody>{rest}</tbody></table></details>"
        if len(given) > len(ends)
        else ""
    )
    return f'<p class="prompt">{_lines(prompt)}</p><div class="answers">{cards}</div>{opened}'


def _when(run: str, step: int) -> str:
    when = f"after {plural(step, 'step')}" if step else "before training"
    return escaped(f"{run}, {when}" if run else when)


def _listed(values: Sequence[Any]) -> str:
    more = f" and {number(len(values) - SHOWN_ROWS)} more" if len(values) > SHOWN_ROWS else ""
    return escaped(", ".join(str(value) for value in values[:SHOWN_ROWS]) + more)


def _change(first: float | None, last: float | None) -> str:
    return "–" if first is None or last is None else f"{first:.3f} → {last:.3f}"


def _loss_of(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _count(value: int | str | None) -> str:
    return value if isinstance(value, str) else number(value)


def _lines(text: str) -> str:
    return "\n".join(escaped(line) for line in text.splitlines())
