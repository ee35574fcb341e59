from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_folder import token_step

from koala_ray.errors import KoalaError
from koala_ray.plan.flops import attended_positions
from koala_ray.plan.workload import dialogue_lengths, prepared_workload, stated_workload
from koala_ray.recipe_file import load_recipe
from koala_ray.tokens.shards import ROWS_PER_SHARD

LENGTHS = [30, 64, 12, 50, 9, 33, 61, 20, 45, 7, 18, 64]
SETS = ["tokens.context=64", "train.epochs=2", "train.batch_rows=4", "train.micro_rows=2"]


def test_packs_give_the_real_figures(tmp_path: Path) -> None:
    step = token_step(tmp_path, LENGTHS, context=64, epochs=2)
    found = prepared_workload(load_recipe("tiny", SETS), step.folder)
    packs = step.manifest.counts["packs"]
    assert found.tokens_per_epoch == sum(LENGTHS)
    assert found.tokens == 2 * sum(LENGTHS)
    assert found.learnt == 2 * sum(length // 2 for length in LENGTHS)
    assert found.rows == 2 * packs
    assert found.steps == -(-2 * packs // 4)
    assert found.attended == attended_positions(np.array(LENGTHS))


def test_lengths_are_those_of_one_epoch_over_all_shards(tmp_path: Path) -> None:
    lengths = [16] * (ROWS_PER_SHARD + 40)  # one dialogue a row: the first epoch ends inside the second shard
    step = token_step(tmp_path, lengths, context=16, epochs=2)
    assert sorted(dialogue_lengths(f"{step.folder}/train").tolist()) == lengths


def test_max_steps_cuts_the_workload(tmp_path: Path) -> None:
    step = token_step(tmp_path, LENGTHS, context=64, epochs=2)
    whole, cut = (
        prepared_workload(load_recipe("tiny", [*SETS, f"train.max_steps={most}"]), step.folder) for most in (0, 2)
    )
    assert (cut.steps, cut.rows) == (2, 8)
    assert cut.tokens < whole.tokens
    assert cut.tokens_per_epoch == whole.tokens_per_epoch


@pytest.mark.parametrize("setting", ["train.epochs=3", "tokens.context=128"])
def test_packs_of_other_settings_are_refused(tmp_path: Path, setting: str) -> None:
    step = token_step(tmp_path, LENGTHS, context=64, epochs=2)
    with pytest.raises(KoalaError, match=setting.split(".")[1].split("=")[0]):
        prepared_workload(load_recipe("tiny", [*SETS, setting]), step.folder)


def test_a_folder_that_is_no_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KoalaError, match="commit marker"):
        prepared_workload(load_recipe("tiny", SETS), str(tmp_path))


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 4))
def test_stated_tokens_are_all_trained_on(tokens: int, epochs: int) -> None:
    found = stated_workload(load_recipe("koala-all-13b", [f"train.epochs={epochs}"]), tokens)
    assert found.tokens == tokens * epochs
    assert found.learnt is None
    assert (found.steps - 1) * 32 < found.rows <= found.steps * 32
    assert found.tokens_per_step <= 32 * 2048


def test_stated_tokens_come_close_to_the_packs_of_a_real_mixture() -> None:
    # docs/benchmarks.md, preparing a mixture of the published size: 227,532,407 tokens in 111,216 rows.
    assert stated_workload(load_recipe("koala-all-13b"), 227_532_407).rows / 2 == pytest.approx(111_216, rel=0.001)


def test_no_dialogue_is_longer_than_the_context() -> None:
    assert stated_workload(load_recipe("tiny", SETS), 10_000).attended == 32.5


def test_no_tokens_are_refused() -> None:
    with pytest.raises(KoalaError, match="needs tokens"):
        stated_workload(load_recipe("tiny"), 0)
