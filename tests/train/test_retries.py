"""Which failures are worth another start."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import RayActorError
from ray.train import PreemptionError, PreemptionInfo, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.recipe import RetrySettings
from koala_ray.train.guards import explain_hang
from koala_ray.train.retries import LONGEST_WAIT, Fault, LeftMachines, Retries, fault_of, refusal

ERROR = Fault("error", "ValueError: no")
LOSS = Fault("loss", "worker 1 vanished")


def raised(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as found:
        return found


def test_an_error_of_the_code_is_named():
    error = WorkerGroupError("…", {1: raised(RuntimeError("wrapped"), ValueError("first\nwhat is wrong"))})
    assert fault_of(error) == Fault("error", "ValueError: what is wrong")


def test_a_vanished_worker_counts_whatever_the_others_say():
    waited = explain_hang(RuntimeError("[10.0.0.2]:4711: Connection closed by peer"), 60)
    assert waited is not None
    assert fault_of(WorkerGroupError("…", {0: waited})).kind == "loss"
    both = WorkerGroupError("…", {0: ValueError("x"), 3: raised(RuntimeError("health"), RayActorError())})
    assert fault_of(both) == Fault("loss", "worker 3 vanished")


def test_a_lone_worker_that_vanishes_is_a_loss_and_no_error():
    health = pickle.loads(pickle.dumps(WorkerHealthCheckFailedError("worker 0", RayActorError())))
    assert fault_of(WorkerGroupError("…", {0: health})) == Fault("loss", "worker 0 vanished")


def test_a_preemption_is_one():
    assert fault_of(raised(RuntimeError("…"), PreemptionError(PreemptionInfo(0, {}), True))).kind == "preemption"


def test_a_refusal_is_found_under_all_layers():
    refused = KoalaError("no", where="here", mend="so")
    assert refusal(WorkerGroupError("…", {0: raised(RuntimeError("wrapped"), refused)})) is refused
    assert refusal(ValueError("x")) is None


def test_a_storage_that_fails_may_be_back():
    down = StorageFailure("this storage can't be used: 503", where="s3://bucket/run", mend="wait")
    error = WorkerGroupError("…", {0: pickle.loads(pickle.dumps(down))})
    assert refusal(error) is None
    assert fault_of(error) == Fault("loss", "this storage can't be used: 503 (s3://bucket/run)")


def test_the_same_error_at_the_same_step_ends_the_run():
    retries = Retries(RetrySettings(errors=9))
    retries.judge(ERROR, 4, 2)
    retries.judge(Fault("error", "another"), 4, 2)
    retries.judge(ERROR, 5, 2)
    with pytest.raises(RuntimeError, match="twice after step 5 with the same error: ValueError: no"):
        retries.judge(ERROR, 5, 2)


def test_errors_and_losses_are_counted_apart():
    retries = Retries(RetrySettings(errors=1, losses=2))
    retries.judge(ERROR, 1, 0)
    retries.judge(LOSS, 1, 0)
    retries.judge(LOSS, 1, 0)
    with pytest.raises(RuntimeError, match=r"after step 1: worker 1 vanished \(3 losses\)"):
        retries.judge(LOSS, 1, 0)
    with pytest.raises(RuntimeError, match=r"ValueError: no \(2 errors\)"):
        retries.judge(ERROR, 2, 0)


def test_preemptions_are_without_a_limit():
    retries = Retries(RetrySettings(errors=0, losses=0))
    for _ in range(1000):
        retries.judge(Fault("preemption", ""), 1, 0)


def test_where_the_workers_left_or_found_no_place_nothing_is_counted():
    from ray.train import ControllerError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

    unplaced = fault_of(ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert unplaced.kind == "unplaced"
    assert fault_of(ControllerError(WorkerGroupStartupFailedError("gone"))).kind == "loss"
    left = fault_of(WorkerGroupError("…", {0: LeftMachines(), 1: LeftMachines()}))
    retries = Retries(RetrySettings(errors=0, losses=0, wait_seconds=10))
    assert [retries.judge(fault, 3, 0) for fault in [left, unplaced] * 3] == [0.0] * 6


def test_the_wait_doubles_until_something_is_committed():
    retries = Retries(RetrySettings(wait_seconds=10, losses=99))
    assert [retries.judge(LOSS, 3, committed) for committed in (0, 0, 0, 0, 2, 2)] == [0, 20, 40, 80, 0, 20]
    for _ in range(20):
        wait = retries.judge(LOSS, 3, 2)
    assert wait == LONGEST_WAIT
