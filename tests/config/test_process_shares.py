"""What each of several processes may use, and how many there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.config.settings import Answers, Config, Server
from server.processes.process_shares import config_of_child, serving_processes, usable_cores
from workers.units import MIB

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", ALL),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100001 100000", min(2, ALL)),
        ("99900000 100000", ALL),
        ("nonsense", ALL),
        ("", ALL),
    ],
)
def test_auto_means_the_cores_that_the_process_may_use(
    tmp_path: Path, text: str, cores: int
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text + "\n")
    assert usable_cores(limit) == cores
    assert usable_cores(tmp_path / "missing") == ALL


def test_a_number_of_processes_is_taken_as_it_is() -> None:
    assert serving_processes(Config(server=Server(processes=7))) == 7
    assert serving_processes(Config(server=Server(processes="auto"))) == usable_cores()


def test_memory_and_connections_are_divided_and_each_process_can_serve_the_largest_request() -> (
    None
):
    config = Config(
        server=Server(max_bodies_bytes=256 * MIB, max_body_bytes=100 * MIB, max_connections=10),
        answers=Answers(max_total_bytes=64 * MIB),
    )
    share = config_of_child(config, 4)
    assert share.server.max_bodies_bytes == 100 * MIB
    assert share.server.max_connections == 3
    assert share.answers.max_total_bytes == 16 * MIB


def test_a_child_is_given_no_secret_of_the_keeper() -> None:
    config = Config(admin_api_key="secret-1", database_url="secret-2", redis_url="secret-3")
    share = config_of_child(config, 2)
    assert (share.admin_api_key, share.database_url, share.redis_url) == ("", "", "")
