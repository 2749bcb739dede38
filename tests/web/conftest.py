"""Provide the browser to the tests of the pages; only they import Playwright."""

from __future__ import annotations

from support.browsing.browser import chromium

__all__ = ["chromium"]
