"""Divide a gateway among its processes: how many serve, and the part of each in what is limited."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from msgspec.structs import replace

from server.config.loading import Config

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""The CPU time that this process's group may use: `QUOTA PERIOD`, or `max PERIOD` (Linux,
Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files")."""


def usable_cores(limit: Path = CPU_LIMIT) -> int:
    """Return how many cores this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = limit.read_text().split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def serving_processes(config: Config) -> int:
    """Return how many processes serve requests."""
    processes = config.server.processes
    return usable_cores() if processes == "auto" else processes


def config_of_child(config: Config, processes: int) -> Config:
    """Return the configuration of one of several serving processes.

    Memory and connections are divided, but each process has room for one whole request and answer.
    The owner key and the URLs of the stores stay with the keeper.
    """
    server, answers = config.server, config.answers
    return replace(
        config,
        server=replace(
            server,
            max_bodies_bytes=max(server.max_bodies_bytes // processes, server.max_body_bytes),
            max_connections=math.ceil(server.max_connections / processes),
        ),
        answers=replace(
            answers,
            max_total_bytes=max(answers.max_total_bytes // processes, answers.max_answer_bytes),
        ),
        admin_api_key="",
        database_url="",
        redis_url="",
    )
