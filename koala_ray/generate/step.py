"""The generate step: a stored prompt set and a model → one answer for each prompt, with its provenance."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from koala_ray import storage
from koala_ray.models.resolve import fingerprint, resolve
from koala_ray.progress import Progress
from koala_ray.prompts import Prompt, PromptSet
from koala_ray.recipe import GenerateSettings
from koala_ray.records import Answer, Turn
from koala_ray.session import check_resources, connect
from koala_ray.steps import StepResult, run_step
from koala_ray.tokens.template import prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer

ANSWERS = "answers.jsonl"


def generate(model: str, prompts: PromptSet, settings: GenerateSettings, out: str) -> tuple[StepResult, dict[str, Any]]:
    """Answer a prompt set with a model, under the recipe's marker, in Koala's template.

    Args:
        model: a bundled model's name, a Hugging Face id, a folder (a train step's, too), or a URI.
        prompts: the prompts.
        settings: sampling and resources.
        out: the folder or URI below which the step's folder lies.

    Returns:
        The step, and the figures that ``koala-ray generate --json`` prints: folder, asked, answered, failed,
        tokens, tokens_per_second.

    Raises:
        KoalaError: there is no such model, or the cluster can't give what the engine asks for.
    """
    model = model if "/" not in model else storage.absolute(model) if _is_folder(model) else model
    result = run_step(
        "generate",
        out,
        settings=settings.model_dump(mode="json", exclude={"cpus", "gpus", "concurrent"}),
        inputs={"model": fingerprint(model), "prompts": prompts.hash(), "prompt_set": prompts.name},
        seed=settings.seed,
        build=lambda folder: _build(folder, model, prompts, settings),
    )
    return result, {"folder": result.folder, **result.manifest.counts, "skipped": result.skipped}


def _is_folder(model: str) -> bool:
    return not storage.is_remote(model) and storage.is_folder(model)


def _build(folder: str, model: str, prompts: PromptSet, settings: GenerateSettings) -> dict[str, Any]:
    from koala_ray.generate.engine import Request, TransformersEngine

    tokenizer = Tokenizer.load(model)
    longest = context_of(model) - settings.max_tokens
    asked = {
        prompt.id: prompt_ids([Turn("user", prompt.text)], tokenizer, settings.marker) for prompt in prompts.prompts
    }
    requests = [Request(id_, ids) for id_, ids in asked.items() if len(ids) <= longest]
    answers = {
        prompt.id: _failed(prompt, model, len(asked[prompt.id]), f"the prompt leaves no room in {longest} tokens")
        for prompt in prompts.prompts
        if len(asked[prompt.id]) > longest
    }
    ray = connect()
    check_resources(ray, 1, settings.cpus, settings.gpus, "generate")
    by_id = {prompt.id: prompt for prompt in prompts.prompts}
    tokens = 0
    with Progress("generate", len(asked), "prompts") as bar:
        bar.update(len(answers), "loading the model")
        actor = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus)(TransformersEngine).remote(model, settings)
        ray.get(actor.ready.remote())
        bar.start_at(len(answers))  # the time left is that of answering, not of loading
        started = time.monotonic()
        stream = actor.generate.options(num_returns="streaming").remote(requests, tokenizer.eos_id)
        for reference in stream:
            generated = ray.get(reference)
            prompt = by_id[generated.id]
            tokens += len(generated.ids) + generated.ended
            answers[prompt.id] = Answer(
                id=prompt.id,
                prompt=prompt.text,
                answer=tokenizer.decode(generated.ids).strip(),
                answer_ids=generated.ids,
                prompt_tokens=len(asked[prompt.id]),
                tokens=len(generated.ids) + generated.ended,
                finish="failed" if generated.error else "stop" if generated.ended else "length",
                model=model,
                error=generated.error,
            )
            speed = tokens / max(1e-9, time.monotonic() - started)
            bar.update(len(answers), f"{tokens:,} tokens  {speed:,.0f} tokens/s")
        seconds = max(1e-9, time.monotonic() - started)
        ray.kill(actor)
    ordered = [answers[prompt.id] for prompt in prompts.prompts]
    lines = "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in ordered)
    storage.write_atomic(storage.join(folder, ANSWERS), lines.encode())
    failed = sum(answer.finish == "failed" for answer in ordered)
    return {
        "model": model,
        "prompt_set": prompts.name,
        "asked": len(ordered),
        "answered": len(ordered) - failed,
        "failed": failed,
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": round(seconds, 2),
    }


def context_of(model: str) -> int:
    """The longest sequence that a model takes, in tokens."""
    from transformers import AutoConfig

    return int(getattr(AutoConfig.from_pretrained(resolve(model)), "max_position_embeddings", 2048))


def _failed(prompt: Prompt, model: str, prompt_tokens: int, error: str) -> Answer:
    return Answer(prompt.id, prompt.text, "", [], prompt_tokens, 0, "failed", model, error)


def read_answers(folder: str) -> list[Answer]:
    """The answers of a generate step's folder, in the prompt set's order."""
    data = storage.read_bytes(storage.join(folder, ANSWERS)).decode()
    # Not by splitlines(): an answer may hold U+2028 and the like as they are.
    return [Answer(**json.loads(line)) for line in data.split("\n") if line]
