from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from token_folder import token_step

from koala_ray.cli import cli
from koala_ray.errors import KoalaError
from koala_ray.plan.plan import plan
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import StepResult

TOKENS = 150_000_000


def planned(*sets: str, on: str = "8xA100-80GB", name: str = "koala-all-13b", **options: Any) -> dict[str, Any]:
    return plan(load_recipe(name, sets), on, **{"price": 1.5, "tokens": TOKENS, **options})


def test_the_fixed_keys_are_there_and_json() -> None:
    found = json.loads(json.dumps(planned(), allow_nan=False))
    keys = "memory_gb_per_gpu recommended tokens step_seconds hours dollars checkpoint_minutes"
    assert set(keys.split()) | {"expected_dollars_with_reclaims"} <= set(found)
    assert list(found["memory_gb_per_gpu"]) == ["0", "1", "2", "3"]
    for parts in found["memory_gb_per_gpu"].values():
        assert list(parts) == ["weights", "gradients", "optimizer", "activations", "logits", "buffers"]


def test_the_figures_follow_from_each_other() -> None:
    found = planned()
    assert found["tokens"] == 2 * TOKENS
    assert found["hours"] == pytest.approx(found["steps"] * found["step_seconds"] / 3600, rel=1e-4)
    assert found["dollars"] == pytest.approx(found["hours"] * 8 * 1.5, abs=0.02)
    assert found["tokens_per_second"] == pytest.approx(found["tokens_per_step"] / found["step_seconds"], rel=1e-4)
    assert found["mfu"] < found["efficiency"]["value"]
    assert found["dollars"] < found["expected_dollars_with_reclaims"]
    assert found["expected_dollars_with_reclaims"] <= found["expected_dollars_as_the_recipe_checkpoints"]
    assert found["expected_dollars_as_the_recipe_checkpoints"] < found["expected_dollars_with_one_checkpoint"]


def test_thirteen_billion_on_eight_a100_fits_from_zero_2_on() -> None:
    found = planned()
    assert found["fits"] == {"0": False, "1": False, "2": True, "3": True}
    assert found["recommended"] == 2
    assert found["stage"] == found["recipe_stage"] == 3
    assert found["advice"] == []


def test_a_stage_that_doesnt_fit_gives_way_to_the_recommended_one() -> None:
    found = planned("train.zero_stage=0")
    assert (found["recipe_stage"], found["stage"], found["recommended"]) == (0, 2, 2)
    assert found["step_seconds"] == found["step_seconds_by_stage"]["2"]


def test_one_small_worker_needs_no_sharding() -> None:
    found = planned(name="koala-smol", on="1xcpu", tokens=100_000)
    assert found["recommended"] == 0
    assert found["dollars"] == pytest.approx(found["hours"] * 1.5, abs=0.01)
    assert found["expected_reclaims"] == 0


def test_what_doesnt_fit_says_what_would_help() -> None:
    found = planned("train.micro_rows=4", "train.activation_checkpointing=false", on="8xA100-40GB")
    assert found["recommended"] is None
    assert found["advice"][0].startswith("--set train.micro_rows=2")


def test_koalas_own_bill() -> None:
    claim = planned(tokens=165_000_000)["koala_claim"]
    assert claim["price_per_gpu_hour"] == pytest.approx(2.083)
    assert claim["tokens_per_second"] == pytest.approx(2 * 165e6 / (6 * 3600), abs=0.1)
    # [calc] of 83.1 GFLOP a token: 324 M tokens in 6 h at 50 %; fewer FLOPs here, since dialogues are short.
    assert claim["tokens_per_epoch_that_fit"]["0.5"] == pytest.approx(324e6 / 2, rel=0.1)
    assert claim["mfu"] == pytest.approx(0.5 * 165e6 / claim["tokens_per_epoch_that_fit"]["0.5"], rel=1e-3)
    assert claim["within_published"]
    assert not planned(tokens=400_000_000)["koala_claim"]["within_published"]


def test_packs_take_the_place_of_stated_tokens(tmp_path: Path) -> None:
    step = token_step(tmp_path, [30, 64, 12, 50, 9, 33, 61, 20], context=64, epochs=2)
    sets = ["tokens.context=64", "train.batch_rows=4"]
    recipe = load_recipe("tiny", sets)
    by_step = plan(recipe, "1xcpu", packs=step)
    assert by_step == plan(recipe, "1xcpu", packs=step.folder)
    assert by_step["tokens"] == 2 * 279
    assert by_step["learnt_tokens"] == 2 * sum(length // 2 for length in [30, 64, 12, 50, 9, 33, 61, 20])
    assert plan(recipe, "1xcpu", packs=step, tokens=1000)["tokens"] == 2000


def test_prices_from_the_nearest_place() -> None:
    assert planned(price=None)["price_per_device_hour"]["value"] == 1.13
    assert planned("cost.price=0.7", price=None)["price_per_device_hour"]["value"] == 0.7
    assert planned("cost.price=0.7", price=0.9)["price_per_device_hour"]["value"] == 0.9
    assert planned(on_demand=4.0)["price_on_demand"]["value"] == 4.0
    with pytest.raises(KoalaError, match="no price"):
        planned(on="8xA100-40GB", price=None)


def test_a_higher_hazard_costs_more_and_checkpoints_oftener() -> None:
    calm, busy = planned(hazard=0.05), planned(hazard=1.0)
    assert busy["checkpoint_minutes"] < calm["checkpoint_minutes"]
    assert busy["expected_dollars_with_reclaims"] > calm["expected_dollars_with_reclaims"] > calm["dollars"]
    # A reclaim of either of two nodes stops both.
    assert planned(on="2x8xA100-80GB", hazard=0.5)["expected_reclaims"] == pytest.approx(
        planned(on="2x8xA100-80GB", hazard=0.25)["expected_reclaims"] * 2, rel=0.2
    )


def test_a_notice_helps_where_a_checkpoint_fits_into_it() -> None:
    one, two = planned(hazard=0.5), planned(on="2x8xA100-80GB", hazard=0.5)
    # 12 bytes of 13 billion weights at 1.5 GB a second and node: 104 s, or 52; and a quarter more to be safe.
    assert one["checkpoint_seconds"] == pytest.approx(104.1, abs=0.1)
    assert [notice["in_time"] for notice in one["by_notice"]] == [False, False]
    assert [notice["in_time"] for notice in two["by_notice"]] == [False, True]
    assert [notice["value"] for notice in two["by_notice"]] == [30, 120]
    short, long = two["by_notice"]
    assert short["hours"] == two["expected_hours_with_reclaims"] > long["hours"] > two["hours"]


def test_a_checkpoint_at_the_end_costs_more_the_more_machines_there_are() -> None:
    found = [planned(on=on, hazard=0.25) for on in ("8xA100-80GB", "2x8xA100-80GB", "8x8xA100-80GB")]
    for each in found:
        assert each["expected_goodput"] > 0.7
        assert each["expected_goodput_with_one_checkpoint"] < each["expected_goodput"]
        assert each["expected_hours_with_reclaims"] < each["hours_of_nineteen_in_twenty"]
        assert each["checkpoint_minutes"] * 60 >= each["checkpoint_seconds"]


def test_a_run_that_reclaims_never_let_end_has_no_price() -> None:
    found = planned("train.checkpoint_every=0", tokens=10**12, hazard=1.0)
    assert found["expected_dollars_with_one_checkpoint"] is None
    assert found["expected_dollars_with_reclaims"] is not None
    json.dumps(found, allow_nan=False)


def test_a_stated_efficiency_is_taken_as_it_is() -> None:
    found = planned(efficiency=0.3)
    assert found["efficiency"]["value"] == 0.3
    assert found["hours"] > planned(efficiency=0.6)["hours"] > 0.4 * found["hours"]


def test_nothing_to_train_on_is_refused_with_the_way_out() -> None:
    with pytest.raises(KoalaError) as refused:
        plan(load_recipe("koala-all-13b"), "8xA100-80GB", 1.5)
    for way_out in ("--tokens", "--packs", "koala-ray prepare koala-all-13b"):
        assert way_out in refused.value.mend


def test_a_batch_that_divides_among_all_needs_no_word() -> None:
    found = planned("train.batch_rows=8", name="koala-smol")
    assert (found["devices"], found["workers"], found["micro_rows"], found["notes"]) == (8, 8, 1, [])


def test_a_batch_too_small_for_all_devices_is_planned_on_some_and_billed_for_all() -> None:
    found = planned(name="koala-smol")  # two rows in a batch
    assert (found["devices"], found["workers"]) == (8, 2)
    assert found["dollars"] == pytest.approx(found["hours"] * 8 * 1.5, abs=0.01)
    assert found["hours"] == planned(name="koala-smol", on="2xA100-80GB")["hours"]
    (note,) = found["notes"]
    assert note.startswith("2 of the 8 devices work, all are paid for: ")
    assert "--set train.batch_rows=8 " in note


def test_a_smaller_micro_batch_gives_way_before_devices_do() -> None:
    found = planned(on="2x8xA100-80GB")  # 32 rows in a batch, 2 in a micro-batch
    assert (found["workers"], found["micro_rows"], found["notes"]) == (16, 2, [])
    found = planned(on="4x8xA100-80GB")
    assert (found["workers"], found["micro_rows"]) == (32, 1)
    assert found["notes"] == ["train.micro_rows is taken as 1, not 2: a worker's share of a batch is 1 row."]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 8), st.integers(1, 40), st.integers(1, 4))
def test_any_batch_is_planned_for(nodes: int, per_node: int, rows: int, micro: int) -> None:
    sets = [f"train.batch_rows={rows * micro}", f"train.micro_rows={micro}"]
    found = planned(*sets, name="koala-smol", on=f"{nodes}x{per_node}xA100-80GB", tokens=1000)
    assert rows * micro % (found["workers"] * found["micro_rows"]) == 0
    assert 1 <= found["workers"] <= found["devices"] == nodes * per_node
    assert bool(found["notes"]) == (found["workers"] < found["devices"] or found["micro_rows"] < micro)


def test_every_assumption_has_its_source() -> None:
    found = planned(on="2x8xA100-80GB")
    for item in [*found["assumptions"], found["hazard_per_node_hour"], *found["known_prices"]]:
        assert item["text"]
        assert item["kind"]
        assert item["date"]


def test_planning_loads_no_trainer() -> None:
    code = (
        "import sys; from koala_ray.plan import plan, text, page, advice, flops; "
        "print(sorted({'torch', 'ray', 'deepspeed', 'transformers', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_finds_what_is_prepared_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = token_step(tmp_path, [30, 64, 12, 50], context=64, epochs=2)
    asked: list[tuple[str, str]] = []

    def find(recipe: Recipe, out: str) -> StepResult:
        asked.append((recipe.name, out))
        return step

    monkeypatch.setattr("koala_ray.prepare.prepared", find)  # tests/test_prepare.py has the real one
    line = ["plan", "tiny", "--on", "1xcpu", "--set", "tokens.context=64", "--set", "train.epochs=2"]
    found = CliRunner().invoke(cli, [*line, "--out", "o"])
    assert found.exit_code == 0, found.output
    assert step.folder in found.stdout.splitlines()[0]
    for told in (["--tokens", "1000"], ["--packs", step.folder]):
        assert CliRunner().invoke(cli, [*line, *told]).exit_code == 0
    assert asked == [("tiny", "o")]
