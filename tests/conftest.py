"""Rules every test lives under: one fast loop, a time limit, and nothing left behind.

Asynchronous tests are plain `async def test_...`: pytest's `anyio_mode = auto` runs them, here on
uvloop. Warnings are errors (setup.cfg), so a socket or transport that is dropped unclosed fails a
test. The fixtures of a gateway are in `support/front_door.py`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.network.own_network import enter_own_network

pytest_plugins = ("support.front_door", "support.servers.postgres_server")

TIME_LIMIT_S = 300.0
"""When a test counts as hanging; `@pytest.mark.time_limit(seconds)` grants more."""

STRAY_GRACE_S = 10.0
"""How long a task that is already on its way out may take to be gone."""


# How long an example takes says how busy the machine is, nothing about the code under test.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of this suite."""
    config.addinivalue_line(
        "markers", "gateway(**options): options of `front_door` for the fixtures of a gateway"
    )
    config.addinivalue_line("markers", "browser: needs Chromium; set for all that use `chromium`")
    config.addinivalue_line("markers", "time_limit(seconds): let this test take longer")


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Watch every asynchronous test for strays, outside all of its own fixtures."""
    inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(inner):
        pytest.mark.usefixtures("_no_stray_tasks")(obj)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test that needs a browser, so that `-m "not browser"` runs without one."""
    if {"chromium", "engine"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests a tenth faster: next to nothing of what is made then goes away."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Put the time limit around an asynchronous test; faulthandler's limit covers the rest."""
    test, mark = pyfuncitem.obj, pyfuncitem.get_closest_marker("time_limit")
    limit_s = max(mark.args[0], TIME_LIMIT_S) if mark else TIME_LIMIT_S

    async def limited(**arguments: Any) -> None:
        timer = asyncio.timeout(limit_s)
        try:
            async with timer:
                await test(**arguments)
        except TimeoutError as error:
            if timer.expired():
                raise AssertionError(f"the test took longer than {limit_s:g} s") from error
            raise

    if inspect.iscoroutinefunction(test) and not hasattr(test, "hypothesis"):
        pyfuncitem.obj = limited
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on the loop that the gateway runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def _no_stray_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves a task running, or garbage that warns when it is collected."""
    before = _tasks()
    yield
    strays = _tasks() - before
    if strays:
        _, strays = await asyncio.wait(strays, timeout=STRAY_GRACE_S)
    shown = [repr(task) for task in strays]
    for task in strays:
        task.cancel()
    if strays:
        await asyncio.wait(strays, timeout=STRAY_GRACE_S)
    gc.collect()  # an unclosed transport in a reference cycle warns now, beside its own test
    assert not shown, "tasks left running:\n" + "\n".join(shown)


def _tasks() -> set[asyncio.Task[Any]]:
    """Find the tasks of the loop but those of anyio's own test runner."""
    return {
        task
        for task in asyncio.all_tasks()
        if not getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")
    }


@pytest.fixture(scope="session", autouse=True)
def _own_network() -> None:
    """Begin with a network that the tests of other processes cannot disturb."""
    enter_own_network()


@pytest.fixture(scope="session", autouse=True)
def _all_collections() -> Iterator[None]:
    """Include in pytest's last collection what was kept out of the others."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _small_collections(_all_collections: None) -> None:
    """Keep what is there before a module's fixtures out of the collections after each test."""
    gc.collect()
    gc.freeze()
