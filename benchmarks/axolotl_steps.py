"""Axolotl for bench_train.py, run by a Python that has it (its pins are not ours): packing under its own sampler.

A plugin holds the trainer up before each step until a line comes on stdin, and says on stdout what the step took.

    python -m venv /tmp/axolotl && /tmp/axolotl/bin/pip install torch==2.13.0 axolotl==0.19.0
    python benchmarks/bench_train.py --axolotl /tmp/axolotl/bin/python
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IGNORED = -100


def say(**figures: Any) -> None:
    """Figures to the process that asked, past what libraries print."""
    OUT.write(json.dumps(figures) + "\n")


def settings(work: dict[str, Any], folder: str) -> dict[str, Any]:
    """Axolotl's configuration for a piece of work."""
    return {
        "base_model": work["model"],
        "datasets": [{"path": work["dialogues_file"], "ds_type": "json", "type": None}],
        "dataset_prepared_path": f"{folder}/prepared",
        "output_dir": f"{folder}/out",
        "sequence_len": work["context"],
        "sample_packing": True,
        "pad_to_sequence_len": False,
        "attn_implementation": "sdpa",
        "micro_batch_size": 1,
        "gradient_accumulation_steps": work["batch_rows"],
        "max_steps": work["steps"],
        "optimizer": "adamw_torch_fused",
        "adam_beta1": work["betas"][0],
        "adam_beta2": work["betas"][1],
        "weight_decay": 0.0,
        "learning_rate": work["lr"],
        "lr_scheduler": "constant",
        "max_grad_norm": work["clip"],
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "val_set_size": 0,
        "special_tokens": {"pad_token": "<|endoftext|>"},
        "plugins": ["axolotl_steps.TurnsPlugin"],
    }


class TurnsPlugin:
    """Puts the callback below into Axolotl's trainer; made a plugin of Axolotl's when this is run."""

    def __new__(cls) -> Any:
        from axolotl.integrations.base import BasePlugin
        from transformers import TrainerCallback

        class Turns(TrainerCallback):
            def __init__(self, trainer: Any) -> None:
                self.trainer, self.tokens, self.learnt = trainer, 0, 0
                self.started = self.busy = self.seconds = self.cpu = 0.0

            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                say(apart=apart(self.trainer), first_loss=0.0)
                self.next()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.seconds, self.cpu = time.perf_counter() - self.started, time.process_time() - self.busy

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                logs = kwargs["logs"]
                if "tokens/trainable" not in logs:
                    return
                tokens, learnt = int(logs["tokens/total"]), int(logs["tokens/trainable"])
                step = {"seconds": self.seconds, "cpu": self.cpu, "loss": float(logs["loss"])}
                say(step={**step, "tokens": tokens - self.tokens, "learnt": learnt - self.learnt})
                self.tokens, self.learnt = tokens, learnt
                if state.global_step < state.max_steps:
                    self.next()

            def next(self) -> None:
                sys.stdin.readline()
                self.started, self.busy = time.perf_counter(), time.process_time()

        class Plugin(BasePlugin):
            def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
                return [Turns(trainer)]

        return Plugin()


def apart(trainer: Any) -> float | None:
    """How far the logits of a batch's second dialogue are from those it has alone, in the model that is trained."""
    import torch

    batch = next(iter(trainer.get_train_dataloader()))
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "num_items_in_batch")}
    starts = (inputs["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    if len(starts) < 2:
        return None
    span = slice(starts[1], starts[2] if len(starts) > 2 else None)
    with torch.no_grad():
        packed = trainer.model(**inputs, use_cache=False).logits[0, span]
        alone = trainer.model(input_ids=inputs["input_ids"][:, span], use_cache=False).logits[0]
    return float((packed - alone).abs().max())


def main() -> None:
    import torch
    import yaml

    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    os.environ |= {"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    from axolotl.cli.train import do_cli

    say(imported=int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as folder:
        file = Path(folder) / "axolotl.yaml"
        file.write_text(yaml.safe_dump(settings(work, folder)))
        do_cli(str(file))
    say(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    # The plugin is imported by Axolotl under this file's name: one module, one way out.
    sys.modules["axolotl_steps"] = sys.modules["__main__"]
    OUT = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    main()
