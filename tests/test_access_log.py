"""The access log: a line for every request, and never a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.upstream import FakeUpstream
from front_door import front_door


async def test_a_key_that_was_put_into_a_path_is_not_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        secret = await door.mint()
        assert (await door.get(f"/api/v1/keys/{secret}")).status_code == 404
    lines = capsys.readouterr().out
    assert "404 GET /api/v1/keys/roxy_***" in lines
    assert secret not in lines
