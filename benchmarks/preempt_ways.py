"""What users would run instead, for bench_preempt.py: TRL's trainer that saves and resumes, and Ray Train's example.

Each worker writes each step's rows and its loss to a file, a line for each, at once. Run again after a kill they go on
as their documentation says.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROWS, LENGTH, BATCH, EPOCHS = 320, 192, 8, 3
STEPS = ROWS * EPOCHS // BATCH
SAVE_STEPS = 10
LR = 1e-3
FIRST, COUNT = 4, 250
"""Token ids of the tiny model's bytes; a row's first two tell which row it is."""


def rows() -> np.ndarray:
    """int64 [ROWS, LENGTH]."""
    found = np.random.default_rng(0).integers(FIRST, FIRST + COUNT, (ROWS, LENGTH))
    found[:, 0], found[:, 1] = FIRST + np.arange(ROWS) // COUNT, FIRST + np.arange(ROWS) % COUNT
    return found


def names(ids: torch.Tensor) -> list[int]:
    """Which rows a batch holds."""
    return [int(one) for one in (ids[:, 0] - FIRST) * COUNT + ids[:, 1] - FIRST]


def tell(file: str, step: int, rank: int, ids: torch.Tensor, loss: float) -> None:
    """A line for a worker's step, which counts from 1."""
    line = {"step": step, "rank": rank, "rows": names(ids), "loss": loss, "time": time.time()}
    with open(file, "a") as lines:
        lines.write(json.dumps(line) + "\n")


def trl(model: str, out: str, log: str, workers: int) -> None:
    """SFTTrainer with ``save_steps``, and ``resume_from_checkpoint`` where there is a checkpoint; one of torchrun's
    processes, where there are several.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    class Told(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
            loss = super().training_step(model, inputs, *more)
            tell(log, self.state.global_step + 1, self.args.process_index, inputs["input_ids"], float(loss))
            return loss

    config = SFTConfig(
        output_dir=out,
        per_device_train_batch_size=BATCH // workers,
        ddp_backend="gloo" if workers > 1 else None,
        num_train_epochs=EPOCHS,
        learning_rate=LR,
        save_strategy="steps",
        save_steps=SAVE_STEPS,
        max_length=LENGTH,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
    )
    data = Dataset.from_dict({"input_ids": rows().tolist()})
    trainer = Told(model=model, args=config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(model))
    last = get_last_checkpoint(out) if os.path.isdir(out) else None
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(f"{out}/final")


def ray_example(model: str, out: str, log: str, workers: int) -> None:
    """Ray Train's guide: a checkpoint with each epoch's report, ``max_failures``, a start from ``get_checkpoint``."""
    import ray
    import ray.data
    import ray.train
    import ray.train.torch
    from ray.train.torch import TorchTrainer

    def loop() -> None:
        from transformers import AutoModelForCausalLM

        found = ray.train.torch.prepare_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32))
        plain = getattr(found, "module", found)
        rank = ray.train.get_context().get_world_rank()
        optimizer = torch.optim.AdamW(found.parameters(), lr=LR)
        begin = 0
        if checkpoint := ray.train.get_checkpoint():
            with checkpoint.as_directory() as folder:
                state = torch.load(f"{folder}/state.pt")
                plain.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
                begin = state["epoch"] + 1
        shard = ray.train.get_dataset_shard("train")
        for epoch in range(begin, EPOCHS):
            for place, batch in enumerate(shard.iter_torch_batches(batch_size=BATCH // workers)):
                ids = batch["ids"]
                loss = found(input_ids=ids, labels=ids).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                tell(log, epoch * (ROWS // BATCH) + place + 1, rank, ids, float(loss))
            with tempfile.TemporaryDirectory() as folder:
                state = {"model": plain.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                torch.save(state, f"{folder}/state.pt")
                saved = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
                ray.train.report({"epoch": epoch}, checkpoint=saved)
        if rank == 0:
            plain.save_pretrained(f"{out}/final")

    ray.init(address="local", num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    TorchTrainer(
        loop,
        datasets={"train": ray.data.from_numpy(rows()).rename_columns({"data": "ids"})},
        scaling_config=ray.train.ScalingConfig(num_workers=workers),
        run_config=ray.train.RunConfig(
            name="example", storage_path=out, failure_config=ray.train.FailureConfig(max_failures=10)
        ),
    ).fit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["trl", "ray"])
    for name in ("model", "out", "log"):
        parser.add_argument(name)
    parser.add_argument("workers", type=int)
    given = parser.parse_args()
    Path(given.out).mkdir(parents=True, exist_ok=True)
    {"trl": trl, "ray": ray_example}[given.way](given.model, given.out, given.log, given.workers)
