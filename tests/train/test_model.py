"""The trained model: losses of learnt places, adapters, dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from koala_ray.models.resolve import resolve
from koala_ray.recipe import LoraSettings, TrainSettings
from koala_ray.train.batch import MicroBatch
from koala_ray.train.engine import parameter_groups
from koala_ray.train.loss import summed_loss
from koala_ray.train.model import DialogueModel, choose_loss, load_model


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(rank: int = 0, **train) -> DialogueModel:
    settings = TrainSettings(**train)
    torch.manual_seed(0)
    return load_model("tiny", settings, LoraSettings(rank=rank), {})


@pytest.fixture(scope="module")
def batch() -> MicroBatch:
    ids = torch.randint(3, 200, (1, 30), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(12), torch.arange(18)])[None]
    predictors = torch.tensor([4, 5, 6, 20, 21])
    return MicroBatch(ids, positions, (12, 18), predictors, ids[0][predictors + 1])


def plain_losses(batch: MicroBatch) -> torch.Tensor:
    """Each learnt token's loss by the unmodified model, one dialogue at a time."""
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"), attn_implementation="sdpa")
    logits = torch.cat([model(input_ids=part).logits[0] for part in batch.input_ids.split([12, 18], dim=1)])
    return cross_entropy(logits[batch.predictors], batch.targets, reduction="none").detach()


def test_the_loss_is_the_plain_models_on_each_dialogue_alone(batch):
    model = load(loss_chunk=2)
    expected = plain_losses(batch)
    torch.testing.assert_close(model(batch), expected.sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(batch, each=True), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_weight(batch, checkpointing):
    model = load(activation_checkpointing=checkpointing).train()
    model(batch).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_adapters_begin_as_nothing_and_are_all_that_is_trained(batch):
    model = load(rank=4)
    torch.testing.assert_close(model(batch), plain_losses(batch).sum(), rtol=1e-5, atol=1e-5)
    model(batch).backward()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == trained
    grouped = sum(len(group["params"]) for group in parameter_groups(model, 0.1))
    assert grouped == len(trained)


def test_dropout_drops_in_training_only(batch):
    model = load(dropout=0.5)
    expected = plain_losses(batch).sum()
    torch.testing.assert_close(model.eval()(batch), expected, rtol=1e-5, atol=1e-5)
    model.train()
    torch.manual_seed(1)
    first = model(batch)
    torch.manual_seed(1)
    assert torch.equal(model(batch), first)
    torch.manual_seed(2)
    assert not torch.equal(model(batch), first)
    assert abs(first - expected) > 1e-3


def test_vectors_are_not_decayed():
    model = load()
    decayed, kept = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert all(weight.ndim == 2 for weight in decayed["params"])
    assert all(weight.ndim == 1 for weight in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_without_a_gpu_the_loss_is_our_own():
    assert choose_loss(TrainSettings()) is summed_loss
    assert choose_loss(TrainSettings(loss="chunked", gpus_per_worker=1)) is summed_loss
