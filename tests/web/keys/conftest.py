"""Provide the owner to the tests of the pages of keys."""

from __future__ import annotations

import pytest
from support.front_door import OWNER, Door
from support.visitors import Browser


@pytest.fixture
async def owner(door: Door) -> Browser:
    """Return a browser in which the owner is signed in."""
    browser = Browser(door)
    await browser.sign_in(OWNER)
    return browser
