"""A node that comes back has what it had, and nothing that Ray finds by itself is told twice."""

from __future__ import annotations

import json

from koala_ray.preempt.given import rejoin_command

NODE = {
    "NodeManagerAddress": "10.0.0.7",
    "Resources": {
        "CPU": 96.0,
        "GPU": 8.0,
        "memory": 1e12,
        "object_store_memory": 2e11,
        "node:10.0.0.7": 1.0,
        "accelerator_type:A100": 1.0,
        "scratch": 2.0,
    },
    "Labels": {"ray.io/node-id": "ab12", "zone": "b"},
}


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_node_starts_as_it_was():
    command = rejoin_command("10.0.0.1:6379", NODE)
    assert command[1:4] == ["-m", "ray.scripts.scripts", "start"]
    assert option(command, "--address") == "10.0.0.1:6379"
    assert option(command, "--node-ip-address") == "10.0.0.7"
    assert option(command, "--num-cpus") == "96"
    assert option(command, "--num-gpus") == "8"
    assert option(command, "--memory") == "1000000000000"
    assert option(command, "--object-store-memory") == "200000000000"
    assert json.loads(option(command, "--resources")) == {"scratch": 2.0}
    assert option(command, "--labels") == "zone=b"


def test_a_node_without_gpus_and_labels_claims_none():
    plain = {**NODE, "Resources": {"CPU": 1.0, "memory": 1e9, "object_store_memory": 1e8}, "Labels": {}}
    command = rejoin_command("10.0.0.1:6379", plain)
    assert option(command, "--num-gpus") == "0"
    assert json.loads(option(command, "--resources")) == {}
    assert "--labels" not in command
