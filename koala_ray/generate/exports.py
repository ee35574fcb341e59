"""A generate step's answers in the files that other programs read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.generate.batch import read_answers
from koala_ray.records import Answer
from koala_ray.steps import read_manifest


def alpaca_eval(answers: Sequence[Answer], model: str) -> bytes:
    """AlpacaEval's ``model_outputs.json``: the first answer to the first turn of each prompt.

    An answer that failed is left out: AlpacaEval would count an empty one as given.
    """
    rows = [
        {"instruction": answer.prompt, "output": answer.answer, "generator": model, "dataset": answer.prompt_set}
        for answer in answers
        if answer.turn == answer.index == 0 and answer.finish != "failed"
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1).encode()


def fastchat(answers: Sequence[Answer], model: str) -> bytes:
    """FastChat's answer file (``llm_judge/gen_model_answer.py``): a line a prompt, its answers' turns in ``choices``.

    A prompt with an answer that failed is left out.
    """
    lines = []
    for id_, rows in _by_prompt(answers):
        if any(row.finish == "failed" for row in rows):
            continue
        indices = sorted({row.index for row in rows})
        choices = [{"index": one, "turns": [row.answer for row in rows if row.index == one]} for one in indices]
        question = int(id_) if id_.isdigit() else id_
        body = {"question_id": question, "answer_id": f"{model}-{id_}", "model_id": model, "choices": choices}
        lines.append(json.dumps(body, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def _by_prompt(answers: Sequence[Answer]) -> Iterator[tuple[str, list[Answer]]]:
    for id_, rows in groupby(answers, key=lambda answer: answer.id):
        yield id_, list(rows)


def jsonl(answers: Sequence[Answer], model: str) -> bytes:
    """A line an answer, with all that is known of it."""
    return "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers).encode()


def parquet(answers: Sequence[Answer], model: str) -> bytes:
    """A row an answer; the sampling as JSON, so that files of different settings go together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**asdict(answer), "sampling": json.dumps(answer.sampling, sort_keys=True)} for answer in answers]
    whole = {"prompt_tokens", "tokens", "turn", "index", "seed", "step"}
    kinds = {"answer_ids": pa.list_(pa.int32()), "seconds": pa.float64(), **dict.fromkeys(whole, pa.int64())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in Answer.__dataclass_fields__])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Sequence[Answer], str], bytes]] = {
    "alpaca-eval": alpaca_eval,
    "fastchat": fastchat,
    "jsonl": jsonl,
    "parquet": parquet,
}
USUAL_NAMES = {
    "alpaca-eval": "model_outputs.json",
    "fastchat": "model_answer.jsonl",
    "jsonl": "answers.jsonl",
    "parquet": "answers.parquet",
}


def export_answers(folders: Sequence[str], kind: str, to: str, model: str = "") -> int:
    """Write the answers of generate steps into one file; returns how many there were.

    Args:
        folders: the steps' folders or URIs, all of one model.
        kind: of :data:`FORMATS`.
        to: the file or URI to write.
        model: the name under which the file knows the model; the last part of its own by default.

    Raises:
        KoalaError: a folder is no generate step's, or they are of several models.
    """
    answers: list[Answer] = []
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest.step != "generate":
            raise KoalaError(f"this is a {manifest.step} step's folder", where=folder, mend="give a generate step's")
        answers += read_answers(folder)
    hashes = {answer.model_hash for answer in answers}
    if len(hashes) > 1 and not model:
        raise KoalaError(
            f"the answers are those of {len(hashes)} models",
            where=", ".join(folders),
            mend="give one model's folders at a time",
        )
    title = model or answers[0].model.rstrip("/").rpartition("/")[2]
    storage.write_atomic(storage.absolute(to), FORMATS[kind](answers, title))
    return len(answers)
