"""Find the prices of models whose catalog entry states none.

`genai-prices` is data for one look-up at start, so it is read by a child process beside the rest of
the start-up (see `workers.catalog.price_list`). Without the package, or when the child
fails, prices stay unknown and one warning says so; nothing is fetched from the network.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from workers.catalog.catalog import Model, Prices

TIMEOUT_S = 10.0
SCRIPT = Path(__file__).with_name("price_list.py")
DECODER = msgspec.json.Decoder(dict[str, Prices])

log = logging.getLogger(__name__)


class PriceLookUpFailed(Exception):
    """The child did not answer; the message says why, for the log."""


async def find_prices(
    models: Iterable[Model], *, script: Path = SCRIPT, timeout_s: float = TIMEOUT_S
) -> Mapping[str, Prices]:
    """Look up what the catalog does not state; model id to prices, what is unknown left out.

    Never raises but for its own cancellation, which ends the child running `script`.
    """
    wanted = _wanted(models)
    if not wanted:
        return {}
    try:
        return await _ask_child(wanted, script, timeout_s)
    except PriceLookUpFailed as error:
        log.warning("Prices are unknown, so costs are not counted: %s", error)
        return {}


def _wanted(models: Iterable[Model]) -> list[dict[str, str]]:
    """List the deployments to look at: live ones first, as they are what will be paid for."""
    return [
        {
            "model": model.id,
            "base_url": deployment.base_url,
            "upstream_model": deployment.upstream_model,
        }
        for model in models
        if model.prices is None
        for deployment in sorted(model.deployments, key=lambda each: (not each.live, each.order))
        if not deployment.demo
    ]


async def _ask_child(
    wanted: list[dict[str, str]], script: Path, timeout_s: float
) -> Mapping[str, Prices]:
    if importlib.util.find_spec("genai_prices") is None:
        raise PriceLookUpFailed("the package genai-prices is not installed")
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _run(script, msgspec.json.encode(wanted))
        return DECODER.decode(answer)
    except TimeoutError as error:
        raise PriceLookUpFailed(f"the look-up took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise PriceLookUpFailed(f"the look-up could not be started: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PriceLookUpFailed("the look-up gave no valid answer") from error


async def _run(script: Path, question: bytes) -> bytes:
    """Run the script with our module path and nothing else of our environment: no secret."""
    # By path and with -P: no module that lies in the current directory can be imported by it.
    module_path = os.pathsep.join(filter(None, sys.path))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": module_path},
    )
    try:
        answer, complaint = await child.communicate(question)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise PriceLookUpFailed(f"the look-up ended with {child.returncode}: {last_line[:200]}")
    return answer
