"""Nodes that share PostgreSQL and Valkey restart one after the other, and no request is lost."""

from __future__ import annotations

from pathlib import Path

from support.servers.cluster import Cluster
from support.servers.steady_load import SteadyLoad, steady_answer


async def test_no_request_is_lost(tmp_path: Path) -> None:
    async with Cluster.started(tmp_path) as cluster:
        cluster.upstream.plan(steady_answer)
        load = SteadyLoad(cluster.client)
        for node in cluster.nodes:
            await load.more()
            assert await node.stop() == 0
            await node.start()
        await load.more()
        await load.end()
        assert not load.failures
        assert load.answered == len(cluster.upstream.requests)
