"""What the clouds' metadata services and a file say of a machine's end."""

from __future__ import annotations

import time

import pytest
from metadata import serve

from koala_ray.preempt.sources import Aws, Gcp, NoticeFile, detect

ACTION = {"action": "terminate", "time": "2026-11-22T10:00:00Z"}


@pytest.fixture
def metadata(monkeypatch):
    with serve() as (state, address):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{address}")
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        yield state


def test_aws_gives_notice_with_its_time(metadata):
    source = Aws()
    assert source.look() is None
    metadata.aws["spot/instance-action"] = ACTION
    notice = source.look()
    assert notice.deadline == 1795341600
    assert notice.text == "AWS will terminate this machine at 2026-11-22T10:00:00Z"
    assert metadata.asked.count("/latest/api/token") == 1


def test_a_token_that_is_no_longer_taken_is_asked_for_again(metadata):
    source = Aws()
    source.look()
    metadata.token = "second"
    with pytest.raises(OSError, match="401"):
        source.look()
    assert source.look() is None


def test_a_rebalance_recommendation_is_told_once_and_is_no_notice(metadata):
    told = []
    source = Aws(told.append)
    metadata.aws["events/recommendations/rebalance"] = {"noticeTime": "2026-11-22T09:00:00Z"}
    assert [source.look() for _ in range(3)] == [None] * 3
    assert told == ["AWS recommends to leave this machine (since 2026-11-22T09:00:00Z)"]


@pytest.mark.parametrize(
    ("key", "value", "seconds"), [("preempted", "TRUE", 25), ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", 55)]
)
def test_gcp_gives_notice(metadata, key, value, seconds):
    source = Gcp()
    assert source.look() is None
    metadata.gcp["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
    assert source.look() is None
    metadata.gcp[key] = value
    assert source.look().deadline == pytest.approx(time.time() + seconds, abs=2)


def test_a_service_that_fails_is_no_notice(metadata):
    metadata.down = True
    for source in (Aws(), Gcp()):
        with pytest.raises(OSError, match="503"):
            source.look()


def test_the_cloud_is_known_by_who_answers(metadata, monkeypatch):
    assert detect().name == "aws"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    assert detect().name == "gcp"
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    assert detect() is None


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30\nwhy", 30), ("", 0), ("now!", 0)])
def test_a_file_gives_notice_whatever_stands_in_it(tmp_path, text, seconds):
    source = NoticeFile(tmp_path / "notice")
    assert source.look() is None
    source.path.write_text(text)
    assert source.look().deadline == pytest.approx(time.time() + seconds, abs=2)
