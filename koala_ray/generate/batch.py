"""The batch job: models × prompt sets → one answer to each turn of each prompt, with its provenance.

Each model's replicas are kept full with the prompts of all sets together. What they answer is kept as it comes
(:mod:`koala_ray.generate.store`), so a job that is run again asks only for what it doesn't have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from koala_ray import storage
from koala_ray.generate.app import replicas
from koala_ray.generate.asking import Asker, Dialogue
from koala_ray.generate.model import AskedModel, open_model
from koala_ray.generate.sampling import as_settings, sampling_of
from koala_ray.generate.store import AnswerStore
from koala_ray.prompts import PromptSet
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Answer
from koala_ray.session import connect
from koala_ray.steps import StepResult, find_step, run_step, step_key

ANSWERS = "answers.jsonl"
STORE = "answers"
CARRIED_OUT = {"limit", "engine", "concurrent", "replicas", "min_replicas", "cpus", "gpus", "retries"}
"""The settings that say how a job is carried out, or which prompts it asks, and not what an answer is."""


@dataclass(frozen=True)
class Generated:
    """One model's answers to one prompt set."""

    model: AskedModel
    prompts: PromptSet
    step: StepResult

    @property
    def figures(self) -> dict[str, Any]:
        """Folder and counts, as ``koala-ray generate --json`` prints them."""
        return {"folder": self.step.folder, **self.step.manifest.counts, "skipped": self.step.skipped}


def generate(
    models: Sequence[str], prompt_sets: Sequence[PromptSet], settings: GenerateSettings, out: str, base: str = ""
) -> list[Generated]:
    """Answer prompt sets with models, under the recipe's marker, in Koala's template.

    Args:
        models: each as :func:`koala_ray.generate.model.open_model` takes it.
        prompt_sets: the prompts.
        settings: sampling and resources.
        out: the folder or URI below which the steps' folders and the answers' stores lie.
        base: the model that ``base`` stands for.

    Returns:
        For each model each prompt set's step, in their order.

    Raises:
        KoalaError: there is no such model, or the cluster can't give what the replicas ask for.
    """
    found = []
    for model in [open_model(name, out, base) for name in models]:  # a wrong name costs nothing
        asker = None
        if not all(find_step(**_step(model, prompts, settings, out)) for prompts in prompt_sets):
            asker = Asker(model, settings, _store(model, settings, out))
            _ask_missing(asker, model, prompt_sets, settings)
        found += [_assembled(model, prompts, settings, out, asker) for prompts in prompt_sets]
    return found


def summary(found: Sequence[Generated], out: str) -> dict[str, Any]:
    """All counts together: folder, asked, answered, failed, tokens, tokens_per_second, and ``sets``: each by itself."""
    each = [one.figures for one in found]
    if len(each) == 1:
        return each[0]
    total: dict[str, Any] = {name: sum(one[name] for one in each) for name in ("asked", "answered", "failed", "tokens")}
    seconds = sum(one["tokens"] / one["tokens_per_second"] for one in each if one["tokens_per_second"])
    speed = {"tokens_per_second": round(total["tokens"] / seconds, 1) if seconds else 0.0}
    return {"folder": storage.absolute(out), **total, **speed, "sets": each}


def _step(model: AskedModel, prompts: PromptSet, settings: GenerateSettings, out: str) -> dict[str, Any]:
    return {
        "name": "generate",
        "out": out,
        "settings": settings.model_dump(mode="json", exclude=CARRIED_OUT),
        "inputs": {"model": model.hash, "prompts": prompts.hash(), "prompt_set": prompts.name},
    }


def _store(model: AskedModel, settings: GenerateSettings, out: str) -> AnswerStore:
    """The store of what this model answers under these settings."""
    sampling = {**as_settings(sampling_of(settings)), "marker": settings.marker}
    key = step_key(STORE, sampling, {"model": model.hash})
    return AnswerStore(storage.join(storage.absolute(out), f"{STORE}-{key[:12]}"))


def _ask_missing(asker: Asker, model: AskedModel, prompt_sets: Sequence[PromptSet], settings: GenerateSettings) -> None:
    """Ask for all that the store doesn't have, each just once, whatever sets it is in."""
    different = dict.fromkeys(
        Dialogue(prompt.turns, index)
        for prompts in prompt_sets
        for prompt in prompts.prompts
        for index in range(settings.n)
    )
    if missing := asker.missing(list(different)):
        with replicas(connect(), model.place, settings, asker.name) as handle:
            asker.ask(handle, missing)


def _assembled(
    model: AskedModel, prompts: PromptSet, settings: GenerateSettings, out: str, asker: Asker | None
) -> Generated:
    """The step of one prompt set; without an asker it is done already."""

    def build(folder: str) -> dict[str, Any]:
        assert asker
        provenance = {
            "model": model.name,
            "model_hash": model.hash,
            "step": model.step,
            "prompt_set": prompts.name,
            "prompt_set_hash": prompts.hash(),
            "sampling": as_settings(sampling_of(settings)) | {"marker": settings.marker},
        }
        answers = [
            Answer(**{**asdict(answer), "id": prompt.id, **provenance})
            for prompt in prompts.prompts
            for index in range(settings.n)
            for answer in asker.answers(Dialogue(prompt.turns, index))
        ]
        lines = "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
        storage.write_atomic(storage.join(folder, ANSWERS), lines.encode())
        failed = sum(answer.finish == "failed" for answer in answers)
        tokens = sum(answer.tokens for answer in answers)
        return {
            "model": model.name,
            "prompt_set": prompts.name,
            "licence": prompts.licence,
            "asked": len(answers),
            "answered": len(answers) - failed,
            "failed": failed,
            "tokens": tokens,
            "tokens_per_second": round(asker.tokens_per_second, 1),
            "checkpoint_step": model.step,
        }

    step = _step(model, prompts, settings, out)
    return Generated(model, prompts, run_step(**step, seed=settings.seed, build=build))


def read_answers(folder: str) -> list[Answer]:
    """The answers of a generate step's folder, in the prompt set's order."""
    data = storage.read_bytes(storage.join(folder, ANSWERS)).decode()
    # Not by splitlines(): an answer may hold U+2028 and the like as they are.
    return [Answer(**json.loads(line)) for line in data.split("\n") if line]
