"""Packed data before training: damaged files, rows that aren't the recipe's, rows that the model can't read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import StepResult, run_step
from koala_ray.tokens.pack import epoch_order
from koala_ray.tokens.shards import Dialogues, write_shards
from koala_ray.tokens.step import FORMAT, HELDOUT, TRAIN
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.train.verify import data_problems, end_ids, largest_id, verify, vocabulary_problems

SETS = ("tokens.context=256", "train.epochs=1", "train.batch_rows=2", "train.micro_rows=1")
RECIPE = load_recipe("tiny", SETS)
END = 1
"""The tiny tokenizer's end-of-sequence token."""


def dialogues(learnt: Sequence[int], length: int = 12, highest: int = 40) -> Dialogues:
    """Dialogues of one length that learn their last so many tokens and end in the end-of-sequence token."""
    ids = np.random.default_rng(0).integers(3, highest, (len(learnt), length), np.int32)
    ids[:, 0], ids[:, -1] = highest, END
    learn = np.arange(length)[None] >= length - np.array(learnt)[:, None]
    starts = np.arange(len(learnt) + 1) * length
    names = pa.array([f"made#{place}" for place in range(len(learnt))])
    groups = pa.array(["alpaca/none"] * len(learnt)).dictionary_encode()
    return Dialogues(ids.ravel(), learn.ravel(), starts, np.array(learnt), names, groups)


def pack_rows(out: str, learnt: Sequence[int] = (3, 5, 2, 4), base: str = "tiny", **made: int) -> StepResult:
    """A token step of one dialogue a row, packed as :data:`RECIPE` says, in the order of an epoch."""

    def build(folder: str) -> dict[str, int]:
        packs = [[place] for place in range(len(learnt))]
        rows = write_shards(storage.join(folder, TRAIN), dialogues(learnt, **made), packs, 1, RECIPE.tokens.seed)
        write_shards(storage.join(folder, HELDOUT), dialogues([4]), [[0]], 1, 0)
        return {"rows": rows}

    packed = {"format": FORMAT, "epochs": 1, **RECIPE.tokens.model_dump(mode="json")}
    inputs = {"curate": "made", "tokenizer": Tokenizer.load(base).fingerprint(), "rows": [*learnt, *made.values()]}
    return run_step("tokens", out, settings=packed, inputs=inputs, build=build)


def again(step: StepResult) -> StepResult:
    """The same step, found by a later command."""
    return replace(step, skipped=True)


def refusal(tokens: StepResult) -> KoalaError:
    with pytest.raises(KoalaError) as caught:
        verify(tokens)
    return caught.value


def test_what_was_written_is_accepted(root, capsys):
    verify(again(pack_rows(root)))
    assert "verify" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
@pytest.mark.parametrize("path", [f"{TRAIN}/shard-00000.parquet", f"{HELDOUT}/plan.parquet"])
def test_a_damaged_file_is_refused(root, damage, path):
    tokens = again(pack_rows(root))
    uri = storage.join(tokens.folder, path)
    data = storage.read_bytes(uri)
    if damage == "removed":
        storage.remove_tree(uri)
        expected = "is missing"
    elif damage == "cut":
        storage.write_atomic(uri, data[:-1])
        expected = f"has {len(data) - 1:,} bytes, not {len(data):,}"
    else:
        storage.write_atomic(uri, data[:50] + bytes([data[50] ^ 1]) + data[51:])
        expected = "has the sha256 "
    found = refusal(tokens)
    assert found.error.startswith(f"1 of 4 files are not what was written: {path} {expected}")
    assert found.where == tokens.folder
    assert "remove this folder" in found.mend


def test_all_damaged_files_are_counted(tmp_path):
    tokens = again(pack_rows(str(tmp_path)))
    for file in tokens.manifest.files:
        storage.write_atomic(storage.join(tokens.folder, file["path"]), b"")
    found = refusal(tokens)
    assert found.error.startswith("4 of 4 files")
    assert found.error.endswith("; …")


def test_the_mend_mends(tmp_path):
    tokens = pack_rows(str(tmp_path))
    storage.write_atomic(storage.join(tokens.folder, TRAIN, "plan.parquet"), b"damaged")
    refusal(again(tokens))
    storage.remove_tree(tokens.folder)
    mended = pack_rows(str(tmp_path))
    assert mended.manifest.content_hash == tokens.manifest.content_hash
    verify(again(mended))


def test_a_folder_is_read_once_by_a_process(tmp_path, capsys):
    tokens = pack_rows(str(tmp_path))
    verify(tokens)
    assert capsys.readouterr().err.count("verify") == 0, "this process has just written it"
    verify(again(tokens))
    verify(again(tokens))
    assert capsys.readouterr().err.count("verify") == 1


def problems(tokens: StepResult, *sets: str) -> list[KoalaError]:
    return list(data_problems(load_recipe("tiny", [*SETS, *sets]), tokens))


def test_rows_of_the_recipe_are_accepted(tmp_path):
    assert problems(pack_rows(str(tmp_path))) == []


@pytest.mark.parametrize("key", ["train.epochs=2", "tokens.seed=7", "tokens.context=128", "tokens.long_dialogues=cut"])
def test_rows_of_another_recipe_are_refused(tmp_path, key):
    name, _, value = key.partition("=")
    (found,) = problems(pack_rows(str(tmp_path)), key)
    assert name in found.error
    assert found.error.endswith(f"the recipe says {value}")
    assert found.mend.startswith(f"--set {name}=")
    assert "koala-ray prepare" in found.mend


@settings(max_examples=25, deadline=None)
@given(learnt=st.lists(st.integers(0, 2), min_size=1, max_size=12), batch=st.integers(1, 3))
def test_steps_without_a_learnt_token_are_refused(tmp_path_factory, learnt, batch):
    tokens = pack_rows(str(tmp_path_factory.mktemp("rows")), learnt)
    found = problems(tokens, f"train.batch_rows={batch}")
    in_order = [learnt[place] for place in epoch_order(len(learnt), RECIPE.tokens.seed, 0)]
    sums = [sum(in_order[first : first + batch]) for first in range(0, len(in_order), batch)]
    if 0 not in sums:
        assert found == []
        return
    step = sums.index(0)
    first, last = step * batch, min((step + 1) * batch, len(in_order)) - 1
    assert found[0].error == (
        f"{sums.count(0)} of {len(sums)} steps learn no token: step {step + 1}, rows {first} to {last}, first"
    )
    assert f"--set train.batch_rows={2 * batch}" in found[0].mend
    assert f"preview {tokens.folder} --first {first}" in found[0].mend


def test_steps_that_are_not_taken_need_not_learn(tmp_path):
    first, *_ = epoch_order(4, RECIPE.tokens.seed, 0)
    tokens = pack_rows(str(tmp_path), [int(place == first) for place in range(4)])
    assert problems(tokens, "train.batch_rows=1", "train.max_steps=1") == []
    (found,) = problems(tokens, "train.batch_rows=1", "train.max_steps=2")
    assert found.error.startswith("1 of 2 steps")


def test_a_lost_mask_is_refused(tmp_path):
    (found,) = problems(pack_rows(str(tmp_path), [4, 12, 3]))
    assert found.error.startswith("1 of 3 rows learn every token")


def unreadable(tokens: StepResult, config: object, folder: str = "") -> list[KoalaError]:
    return list(vocabulary_problems(RECIPE, tokens, config, folder))


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig

    return lambda **other: LlamaConfig(**{"vocab_size": 259, "eos_token_id": END, "pad_token_id": 2, **other})


def test_the_largest_id_is_read_from_the_footers(tmp_path):
    assert largest_id(storage.join(pack_rows(str(tmp_path), highest=123).folder, TRAIN)) == 123
    assert largest_id(str(tmp_path / "nothing")) == -1


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path, llama):
    (found,) = unreadable(pack_rows(str(tmp_path)), llama(vocab_size=200))
    assert found.error == "the tokenizer has 259 ids, the model 200"
    assert "belongs to the model" in found.mend


def test_rows_with_ids_beyond_the_embedding_are_refused(tmp_path, llama):
    (found,) = unreadable(pack_rows(str(tmp_path), highest=259), llama())
    assert found.error == "the rows hold the id 259, the model's embedding ends at 258"


def test_rows_of_another_tokenizer_are_refused(tmp_path, llama):
    tokens = pack_rows(str(tmp_path))
    other = replace(tokens, manifest=replace(tokens.manifest, inputs={"curate": "made", "tokenizer": "other"}))
    (found,) = unreadable(other, llama())
    assert "another tokenizer" in found.error
    assert "koala-ray prepare" in found.mend


def test_a_model_that_stops_at_another_token_is_refused(tmp_path, llama):
    tokens = pack_rows(str(tmp_path))
    (found,) = unreadable(tokens, llama(eos_token_id=[7, 9]))
    assert found.error == "the rows end answers with the tokenizer's 1 (</s>), the model stops at 7, 9"
    assert '"eos_token_id": 1' in found.mend
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 1]}')
    assert unreadable(tokens, llama(eos_token_id=7), str(tmp_path)) == []
    assert end_ids(llama(eos_token_id=7), str(tmp_path)) == {1, 7}


@pytest.mark.parametrize("end", [END, None, [END, 7]])
def test_padding_that_is_the_end_of_sequence_is_accepted(tmp_path, llama, end):
    from koala_ray.train.batch import micro_batch
    from koala_ray.train.data import read_rows

    tokens = pack_rows(str(tmp_path))
    assert unreadable(tokens, llama(eos_token_id=end, pad_token_id=END)) == []
    rows = read_rows(storage.join(tokens.folder, TRAIN), 4, [0, 1])
    targets = micro_batch(rows).targets.tolist()
    assert targets.count(END) == 2, "each answer's end is learnt, whatever the padding token is"
