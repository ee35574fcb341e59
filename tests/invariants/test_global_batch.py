"""Invariants 1 and 3: how a global batch is cut into workers, accumulation and ZeRO shards changes nothing, nor
does a stop and going on from a checkpoint, under the same cut or another.

The reference is plain torch: every dialogue runs alone through the unmodified model, the loss is the sum over
learnt tokens divided by the learnt tokens of the global batch, and torch's AdamW steps.
"""

from __future__ import annotations

import pytest
import torch
from cases import SAVED_AFTER, STEPS, run_cases
from transformers import AutoModelForCausalLM

from koala_ray import storage
from koala_ray.models.resolve import resolve
from koala_ray.recipe import TrainSettings
from koala_ray.tokens.shards import ShardReader, read_plan
from koala_ray.train.schedule import learning_rate

pytestmark = pytest.mark.ray
BATCH = 8
SETTINGS = TrainSettings(batch_rows=BATCH, lr=1e-3, eps=1e-6)


@pytest.fixture(scope="module")
def reference(short_tokens):
    """Losses, gradient norms and weights of the plain loop, and the learnt tokens of each row."""
    shards = storage.join(short_tokens.folder, "train")
    plan, reader = read_plan(shards), ShardReader(shards)
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), SETTINGS.lr, SETTINGS.betas, SETTINGS.eps, weight_decay=0.0)
    losses, norms = [], []
    for step in range(STEPS):
        rows = [reader.row(gidx) for gidx in range(step * BATCH, (step + 1) * BATCH)]
        total, learnt = torch.zeros(()), sum(row.learnt for row in rows)
        for row in rows:
            start = 0
            for length in row.lengths:
                ids = torch.tensor(row.input_ids[start : start + length])
                learn = torch.tensor(row.learn[start : start + length])
                logits = model(input_ids=ids[None], use_cache=False).logits[0]
                each = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
                total = total + each[learn[1:]].sum()
                start += length
        loss = total / learnt
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, STEPS, SETTINGS.lr, 0, SETTINGS.lr_floor)
        optimizer.step()
        losses.append(loss.item())
    return {
        "losses": losses,
        "grad_norms": norms,
        "weights": {key: value.detach() for key, value in model.state_dict().items()},
        "learnt": plan.learnt[: STEPS * BATCH],
    }


OTHER_WORKERS = {1: 2, 4: 1}
"""Whose checkpoints a number of workers goes on from, besides its own."""


def cases(workers: int, folder: str, other: int | None) -> dict[str, dict]:
    """The runs of one number of workers; ``folder`` holds the checkpoints of all, those of ``other`` among them."""
    each = BATCH // workers
    common = {"batch_rows": BATCH}
    shifting = {"dropout": 0.2, "evaluate_every": 1, "micro_rows": 1, **common}
    adapters = {"lora": {"rank": 4, "dropout": 0.1}, "lr": 1e-2, **common}
    cut = {
        f"zero{stage}-micro{micro}": {"zero_stage": stage, "micro_rows": micro, **common}
        for stage in (0, 1, 2, 3)
        for micro in (1, each)
    }
    alone = {f"alone{stage}": {"zero_stage": stage, **shifting} for stage in evaluated_stages(workers)}
    evaluated = {f"evaluated{key[-1]}": {"evaluated": True, **case} for key, case in alone.items()}
    stopped = {"dropout": 0.2, "micro_rows": 1, "checkpoint_every": SAVED_AFTER, **common}
    saved = {
        f"saved{stage}": {"zero_stage": stage, "saved": f"{folder}/{workers}-{stage}", **stopped}
        for stage in (0, 1, 2, 3)
    }
    resumed = {f"resumed{stage}": {**saved[f"saved{stage}"], "saved": ""} for stage in (0, 1, 2, 3)}
    for stage in (0, 1, 2, 3):
        resumed[f"resumed{stage}"]["resumed"] = f"{folder}/{workers}-{stage}"
        if other:
            moved = {"zero_stage": 3 - stage, "resumed": f"{folder}/{other}-{stage}", **stopped}
            resumed[f"moved{stage}"] = moved
    adapted = {f"adapted{stage}": {"zero_stage": stage, "micro_rows": 1, **adapters} for stage in (0, 2)}
    return cut | alone | evaluated | adapted | saved | resumed | {"ruined": {"lr": 1e20, "micro_rows": each, **common}}


def evaluated_stages(workers: int) -> tuple[int, ...]:
    """Two workers show what any number does but for the held-out rows' shares."""
    return (0, 1, 2, 3) if workers == 2 else (3,)


@pytest.fixture(scope="module")
def heldout_losses():
    """The first evaluation of each number of workers."""
    return {}


@pytest.fixture(scope="module")
def groups_run() -> list[int]:
    """The numbers of workers so far, the last of which runs now; selected by itself, one finds nobody's checkpoints."""
    return []


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module", params=[2, 1, 4], ids=["2-workers", "1-worker", "4-workers"])
def results(request, short_tokens, checkpoints, groups_run):
    other = OTHER_WORKERS.get(request.param)
    found = cases(request.param, checkpoints, other if other in groups_run else None)
    groups_run.append(request.param)
    return run_cases(request.param, short_tokens.folder, found)


def test_rows_have_uneven_learnt_tokens(reference):
    """Where all rows have as many, a mean of means would pass for the real thing."""
    assert reference["learnt"].max() > 1.5 * reference["learnt"].min()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("cut", ["whole", "accumulated"])
def test_same_trajectory_as_plain_torch(results, reference, stage, cut):
    names = sorted((name for name in results if name.startswith(f"zero{stage}-")), key=lambda name: name[-1])
    result = results[names[0] if cut == "accumulated" else names[1]]
    assert result["losses"] == pytest.approx(reference["losses"], rel=1e-5)
    assert result["grad_norms"] == pytest.approx(reference["grad_norms"], rel=1e-4)
    assert result["weights"].keys() == reference["weights"].keys()
    for key, weight in reference["weights"].items():
        torch.testing.assert_close(result["weights"][key].float(), weight, rtol=1e-4, atol=2e-5, msg=key)


def test_the_loss_falls(reference):
    assert reference["losses"][-1] < reference["losses"][0]


def test_evaluations_and_samples_shift_nothing(results):
    """Dropout is on: a random number drawn too many would show."""
    stages = [name[-1] for name in results if name.startswith("alone")]
    for stage in stages:
        alone, evaluated = results[f"alone{stage}"], results[f"evaluated{stage}"]
        assert len(evaluated["evaluations"]) == STEPS + 1
        assert evaluated["losses"] == alone["losses"]
        assert evaluated["grad_norms"] == alone["grad_norms"]
        for key, weight in alone["weights"].items():
            assert torch.equal(evaluated["weights"][key], weight), (stage, key)
    assert "3" in stages


def test_every_stage_and_number_of_workers_finds_the_same_held_out_losses(results, heldout_losses):
    for name in (name for name in results if name.startswith("evaluated")):
        first = results[name]["evaluations"][0]
        assert len(first["groups"]) > 4
        found = {"all": first["loss"]} | {name: group.loss for name, group in first["groups"].items()}
        expected = heldout_losses.setdefault("losses", found)
        assert found == pytest.approx(expected, rel=1e-5)
        assert first["answers"] == heldout_losses.setdefault("answers", first["answers"])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_resumed_run_is_the_undisturbed_one_to_the_last_bit(results, stage):
    saved, resumed = results[f"saved{stage}"], results[f"resumed{stage}"]
    assert len(resumed["losses"]) == STEPS - SAVED_AFTER
    assert resumed["losses"] == saved["losses"][SAVED_AFTER:]
    assert resumed["grad_norms"] == saved["grad_norms"][SAVED_AFTER:]
    for key, weight in saved["weights"].items():
        assert torch.equal(resumed["weights"][key], weight), key


def test_a_run_goes_on_under_another_number_of_workers_and_zero_stage(results, groups_run):
    moved = {name: result for name, result in results.items() if name.startswith("moved")}
    for name, result in moved.items():
        expected = results[f"saved{3 - int(name[-1])}"]
        assert result["losses"] == pytest.approx(expected["losses"][SAVED_AFTER:], rel=1e-4)
        assert result["grad_norms"] == pytest.approx(expected["grad_norms"][SAVED_AFTER:], rel=1e-3)
        for key, weight in expected["weights"].items():
            torch.testing.assert_close(result["weights"][key], weight, rtol=1e-4, atol=5e-5, msg=f"{name} {key}")
        assert result["notices"] == []
    assert len(moved) == (4 if OTHER_WORKERS.get(groups_run[-1]) in groups_run else 0)


def test_adapters_train_alike_however_the_batch_is_cut(results, reference, heldout_losses):
    whole, sharded = results["adapted0"], results["adapted2"]
    expected = heldout_losses.setdefault("adapted", whole["losses"])
    assert whole["losses"] == pytest.approx(expected, rel=1e-4)
    assert sharded["losses"] == pytest.approx(expected, rel=1e-4)
    assert whole["losses"][0] == pytest.approx(reference["losses"][0], rel=1e-5)
    assert whole["losses"][-1] < whole["losses"][0]
    assert whole["losses"] != pytest.approx(reference["losses"], rel=1e-4)


def test_a_ruined_step_stops_the_run_and_names_its_rows(results):
    ruined = results["ruined"]
    (incident,) = ruined["incidents"]
    assert incident["what"] == "nonfinite"
    assert incident["action"] == "stop"
    step = incident["step"]
    assert incident["rows"] == list(range((step - 1) * BATCH, step * BATCH))
    assert len(incident["examples"]) >= BATCH
    assert len(ruined["losses"]) == step - 1
    assert "guards.nonfinite=skip" in ruined["stopped"]["mend"]
    assert all(torch.isfinite(weight).all() for weight in ruined["weights"].values())
