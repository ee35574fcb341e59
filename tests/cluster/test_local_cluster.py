from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from koala_ray.cluster import dashboard, local, processes, token
from koala_ray.cluster.state import LocalCluster, read_state, state_file, write_state
from koala_ray.errors import KoalaError

# A proxy in the environment must not stand between a test and the loopback.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def http_code(cluster: LocalCluster, path: str, headers: dict[str, str]) -> int:
    try:
        with OPENER.open(urllib.request.Request(cluster.dashboard + path, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def make_cluster(**fields: object) -> LocalCluster:
    values: dict[str, object] = {
        "address": "127.0.0.1:1",
        "dashboard": "http://127.0.0.1:2",
        "pid": 2**22 + 1,  # above any pid
        "created": 1.0,
        "started": "2000-01-01T00:00:00+00:00",
        "log": "none",
        "cpus": 1,
        "session": "/nonexistent/koala-ray-none",
        "mark": "a-mark-of-nobody",
        "token": "",
    }
    return LocalCluster(**{**values, **fields})  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (token.TOKEN_VARIABLE, token.PATH_VARIABLE, token.MODE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KOALA_RAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def fake_python(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


# --- without a Ray ---


def test_import_loads_no_ray() -> None:
    code = "import sys, koala_ray.cluster.local; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_nothing_recorded(home: Path) -> None:
    with pytest.raises(KoalaError, match="no local cluster is running") as caught:
        local.status()
    assert caught.value.mend
    assert local.down() == {"ended": 0, "address": "", "logs": ""}


def test_a_stale_record_never_leads_to_another_process(home: Path, bystander: subprocess.Popen[bytes]) -> None:
    created = psutil.Process(bystander.pid).create_time()
    write_state(make_cluster(pid=bystander.pid, created=created - 60))
    with pytest.raises(KoalaError, match="no local cluster is running"):
        local.status()
    assert local.down()["ended"] == 0
    assert alive(bystander.pid)
    assert not state_file().exists()


def marked(mark: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process that has a mark in its environment, and has begun: before that, the environment can't be read."""
    environment = {**os.environ, processes.MARK_VARIABLE: mark}
    process = subprocess.Popen(
        ["sh", "-c", "echo; read never"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_another_marks_process_is_not_the_head_whatever_its_age(home: Path) -> None:
    with marked("theirs") as other:
        try:
            created = psutil.Process(other.pid).create_time()
            assert processes.find_head(make_cluster(pid=other.pid, created=created, mark="ours")) is None
            assert processes.find_head(make_cluster(pid=other.pid, created=0.0, mark="theirs")) is not None
        finally:
            other.kill()


def test_what_a_dead_head_left_behind_is_ended(home: Path, bystander: subprocess.Popen[bytes]) -> None:
    orphan = marked("left-behind", start_new_session=True)
    write_state(make_cluster(mark="left-behind"))
    assert local.down(timeout_s=5)["ended"] == 1
    orphan.wait(timeout=5)
    assert alive(bystander.pid)


def test_processes_deaf_to_sigterm_are_killed(home: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(600)"
    environment = {**os.environ, processes.MARK_VARIABLE: "deaf"}
    deaf = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_for(ready.exists)
    assert processes.end(make_cluster(mark="deaf"), timeout_s=0.2) == (1, [])
    assert deaf.wait(timeout=5) == -9


def test_a_damaged_record_is_named(home: Path) -> None:
    state_file().write_text('{"pid": 1')
    with pytest.raises(KoalaError, match="damaged") as caught:
        local.status()
    assert str(state_file()) in caught.value.where


def test_record_survives_the_round_trip(home: Path) -> None:
    cluster = make_cluster(notes=("one", "two"))
    write_state(cluster)
    assert read_state() == cluster


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_python(tmp_path, "echo the reason; exit 3", monkeypatch)
    with pytest.raises(KoalaError, match=r"ended while it started\n(.*\n)*the reason") as caught:
        local.up(timeout_s=30)
    assert caught.value.where == str(home / "cluster" / "local.log")
    assert caught.value.mend
    assert not state_file().exists()


def test_a_start_that_hangs_is_ended_at_the_deadline(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    fake_python(tmp_path, f"sleep 600 & echo $$ $! > {pids}; echo it hangs; wait", monkeypatch)
    before = set(Path("/tmp").glob("koala-ray-*"))
    with pytest.raises(KoalaError, match=r"did not answer within 1\.5 s\n(.*\n)*it hangs"):
        local.up(timeout_s=1.5)
    assert not [pid for pid in map(int, pids.read_text().split()) if alive(pid)]
    assert not state_file().exists()
    assert set(Path("/tmp").glob("koala-ray-*")) <= before


@pytest.mark.parametrize("weakness", ["listens beyond this machine: x 0.0.0.0:1", "answers without a token"])
def test_a_cluster_open_to_others_is_refused_and_ended(
    weakness: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    fake_python(tmp_path, f"echo $$ > {pids}.new; mv {pids}.new {pids}; exec sleep 600", monkeypatch)

    def ready(cluster: LocalCluster, *_: float) -> LocalCluster:
        wait_for(pids.exists)
        return cluster

    monkeypatch.setattr(local, "_wait_until_ready", ready)
    monkeypatch.setattr(processes, "exposed", lambda _: ["x 0.0.0.0:1"] if "listens" in weakness else [])
    monkeypatch.setattr(dashboard, "get", lambda *_, **__: [])
    with pytest.raises(KoalaError, match=weakness):
        local.up()
    assert not alive(int(pids.read_text()))
    assert not state_file().exists()


def test_no_cluster_without_a_cpu(home: Path) -> None:
    with pytest.raises(KoalaError, match="at least one CPU"):
        local.up(cpus=0)


def test_ports_open_to_other_machines_are_seen() -> None:
    me = [psutil.Process()]
    with socket.socket() as inside, socket.socket() as outside:
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        known = processes.exposed(me)
        assert not [entry for entry in known if entry.endswith(f":{inside.getsockname()[1]}")]
        outside.bind(("0.0.0.0", 0))
        outside.listen()
        new = set(processes.exposed(me)) - set(known)
        assert {entry.split()[-1] for entry in new} == {f"0.0.0.0:{outside.getsockname()[1]}"}


def test_exports_name_a_token_from_the_environment_without_showing_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-the-shell")
    lines = local.exports(make_cluster(token=""))
    assert not [line for line in lines if "from-the-shell" in line or "TOKEN_PATH" in line]
    assert [line for line in lines if line.startswith("#") and "RAY_AUTH_TOKEN" in line]


# --- one Ray for the rest, ended by the last test ---


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder `up` is called from; its home is in the environment while the module's Ray is up."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        for name in (token.TOKEN_VARIABLE, token.PATH_VARIABLE, token.MODE_VARIABLE):
            patch.delenv(name, raising=False)
        patch.setenv("RAY_ADDRESS", "192.0.2.1:1")  # another cluster's, which must not leak into ours
        patch.setenv("KOALA_RAY_HOME", str(folder / "home"))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def cluster(workplace: Path) -> Iterator[LocalCluster]:
    dashboard_port = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = int(holder.getsockname()[1])
        started = local.up(cpus=2, port=taken, dashboard_port=dashboard_port)
        try:
            assert started.address != f"127.0.0.1:{taken}"
            assert [note for note in started.notes if str(taken) in note]
            assert started.dashboard == f"http://127.0.0.1:{dashboard_port}"
            yield started
        finally:
            os.environ["KOALA_RAY_HOME"] = str(workplace / "home")
            local.down(timeout_s=5)


@pytest.mark.ray
def test_up_is_recorded_and_a_second_up_finds_it(cluster: LocalCluster, workplace: Path) -> None:
    assert not cluster.already_up
    assert read_state() == cluster
    assert local.up(cpus=1) == dataclasses.replace(cluster, already_up=True)
    assert stat.S_IMODE((workplace / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(cluster.session).stat().st_mode) == 0o700
    assert "ray" not in vars(local)


@pytest.mark.ray
def test_nothing_listens_beyond_this_machine(cluster: LocalCluster) -> None:
    members = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children(recursive=True)]
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for member in members
        for connection in member.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = {port for _, port in listening}
    assert {int(cluster.address.split(":")[1]), int(cluster.dashboard.split(":")[2])} <= ports
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.mark.ray
def test_the_api_refuses_who_has_no_token_or_a_wrong_one(cluster: LocalCluster) -> None:
    right = token.auth_headers(Path(cluster.token))
    codes = [http_code(cluster, "/api/jobs/", headers) for headers in ({}, {"Authorization": "Bearer no"}, right)]
    assert codes == [401, 403, 200]


@pytest.mark.ray
def test_status_shows_the_node(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = local.status()
    assert (shown["address"], shown["dashboard"]) == (cluster.address, cluster.dashboard)
    assert shown["dollars_per_hour"] == 0.0
    (node,) = shown["nodes"]
    assert (node["ip"], node["state"], node["cpus"]) == ("127.0.0.1", "ALIVE", 2)
    assert len(node["id"]) == 56
    assert cluster.cpus == 2
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(KoalaError, match="refuses this token"):
        local.status()


@pytest.mark.ray
def test_a_job_is_submitted_from_a_shell_with_only_the_exports(cluster: LocalCluster, workplace: Path) -> None:
    (workplace / "jobs").mkdir()
    job = workplace / "jobs" / "hello.py"
    # No interpreter is named: the cluster's PATH finds the one whose Ray it runs.
    job.write_text(
        "#!/usr/bin/env python\n"
        "import ray, sys\n"
        "ray.init()\n"
        "answer = ray.get(ray.remote(lambda: 6 * 7).remote())\n"
        "print('cpus', ray.cluster_resources()['CPU'], answer, sys.prefix)\n"
    )
    job.chmod(0o755)
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    script = "\n".join([*local.exports(cluster), f"exec {ray} job submit jobs/hello.py"])
    shell = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"HOME": str(workplace), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert f"cpus 2.0 42 {sys.prefix}" in shell.stdout
    (entry,) = [entry for entry in local.status()["jobs"] if entry["entrypoint"] == "jobs/hello.py"]
    assert entry["status"] == "SUCCEEDED"
    assert entry["id"].startswith("raysubmit_")
    assert 0 < entry["seconds"] < 60


@pytest.mark.ray
def test_down_ends_all_of_it_and_only_it(
    cluster: LocalCluster, workplace: Path, bystander: subprocess.Popen[bytes]
) -> None:
    pids = workplace / "pids"
    # A job that hides: a process in a session of its own whose parent has ended.
    job = f"(setsid sleep 600 & echo $! >> {pids}); echo $$ >> {pids}; sleep 600"
    request = urllib.request.Request(
        cluster.dashboard + "/api/jobs/",
        data=json.dumps({"entrypoint": job}).encode(),
        headers={**token.auth_headers(Path(cluster.token)), "Content-Type": "application/json"},
    )
    OPENER.open(request).close()
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    hidden, shell = map(int, pids.read_text().split())
    members = {child.pid for child in psutil.Process(cluster.pid).children(recursive=True)}
    assert shell in members
    assert hidden not in members
    watcher = subprocess.Popen(["tail", "-f", f"{cluster.session}/r/session_latest/logs/gcs_server.out", cluster.log])
    try:
        ended = local.down(timeout_s=10)
        assert ended["address"] == cluster.address
        assert ended["ended"] >= len(members)
        assert not [pid for pid in {cluster.pid, hidden, *members} if alive(pid)]
        assert alive(bystander.pid)
        assert alive(watcher.pid)
    finally:
        watcher.kill()
        watcher.wait()
    assert not state_file().exists()
    assert not Path(cluster.session).exists()
    assert list(Path(ended["logs"]).glob("gcs_server*"))
    with pytest.raises(KoalaError, match="no local cluster is running"):
        local.status()
    assert local.down()["ended"] == 0
