from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests
from made_runs import STATUS, records

from koala_ray.train.report.prometheus import DESCRIPTIONS, PrometheusSink, metric
from koala_ray.train.report.scalars import OF_STATUS, OF_STEP

RUN = "train-0123456789ab"
SECONDS = 90
"""Ray exports its metrics every 10 s."""


def test_every_figure_is_described() -> None:
    assert set(DESCRIPTIONS) == {*OF_STEP, *OF_STATUS}
    assert metric("train/loss") == "koala_train_loss"


def exported(ray: Any) -> dict[str, float]:
    """The values of this run's metrics on the node's export port."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    page = requests.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10).text
    found = re.findall(rf'^ray_(koala_\w+)\{{[^}}]*run="{RUN}"[^}}]*\}} (\S+)$', page, re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.mark.ray
def test_the_nodes_export_port_shows_the_last_figures(ray_session: Any) -> None:
    made = [record for record in records() if record["kind"] == "step"]
    sink = PrometheusSink(RUN)
    for record in made:
        sink.write(record, STATUS)
    sink.flush()
    wanted = {metric(name) for name in (*OF_STEP, *OF_STATUS)} - {"koala_train_mfu"}  # MFU isn't known in this run
    deadline = time.monotonic() + SECONDS
    found = exported(ray_session)
    while set(found) != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
        found = exported(ray_session)
    sink.close()
    assert set(found) == wanted
    assert found["koala_train_loss"] == pytest.approx(made[-1]["loss"])
    assert found["koala_train_learning_rate"] == pytest.approx(made[-1]["lr"])
    assert found["koala_train_dollars_to_go"] == pytest.approx(98.75)
