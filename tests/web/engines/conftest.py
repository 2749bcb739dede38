"""Provide Firefox and WebKitGTK to the tests, one start of each."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from support.browsing.engines.engine import Engine
from support.browsing.engines.firefox import PROGRAM, running_firefox
from support.browsing.engines.webkit import DRIVER, display, find_browser, running_webkit


@pytest.fixture(scope="session", params=["firefox", "webkit"])
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    """Start an engine; without it the tests fail and say what installs it."""
    if request.param == "firefox":
        if not shutil.which(PROGRAM):
            pytest.fail("no Firefox: apt-get install firefox-esr", pytrace=False)
        async with running_firefox(tmp_path_factory.mktemp("firefox") / "profile") as firefox:
            yield firefox
        return
    program = find_browser()
    if not program or not shutil.which(DRIVER) or not shutil.which("Xvfb"):
        pytest.fail("no WebKit: apt-get install webkit2gtk-driver xvfb", pytrace=False)
    async with display() as environ, running_webkit(program, environ) as webkit:
        yield webkit
