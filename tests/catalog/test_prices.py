"""Rules of the price look-up: one child process, whose failure costs prices and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from support.builders.catalogs import load_catalog

from workers.catalog.catalog import Model, Prices
from workers.catalog.price_list import as_prices, look_up
from workers.catalog.prices import find_prices


async def test_every_built_in_model_has_a_price() -> None:
    catalog = load_catalog()
    found = await find_prices(catalog)
    assert set(found) == set(catalog.models)
    for prices in found.values():
        assert 10_000 < prices.prompt <= prices.completion < 100_000_000
        assert prices.cached_prompt is None or prices.cached_prompt < prices.prompt


async def test_long_prompts_of_gemini_have_a_tier_of_their_own() -> None:
    found = await find_prices([load_catalog().find("google/gemini-2.5-pro")])
    (tier,) = found["google/gemini-2.5-pro"].tiers
    assert tier.above_prompt_tokens == 200_000
    assert tier.prompt > found["google/gemini-2.5-pro"].prompt


async def test_a_stated_price_is_not_looked_up() -> None:
    stated = Model(id="m", name="m", prices=Prices(prompt=1, completion=1))
    assert await find_prices([stated]) == {}


async def test_an_unknown_upstream_has_no_price() -> None:
    local = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "upstream_model": "gpt-4o"}
    catalog = load_catalog([{"id": "mine", "deployments": [local]}])
    assert await find_prices([catalog.find("mine")]) == {}


def test_the_first_deployment_with_a_known_price_decides() -> None:
    wanted = [
        {"model": "m", "base_url": "http://127.0.0.1/v1", "upstream_model": "x"},
        {"model": "m", "base_url": "https://api.groq.com", "upstream_model": "none-such"},
        {"model": "m", "base_url": "https://api.openai.com/v1", "upstream_model": "gpt-4o"},
        {"model": "m", "base_url": "https://api.openai.com/v1", "upstream_model": "gpt-4o-mini"},
    ]
    found = look_up(wanted, datetime(2025, 6, 1, tzinfo=UTC))
    assert found["m"]["prompt"] == 2_500_000


def test_tiers_of_single_kinds_of_tokens_become_tiers_of_the_whole_price() -> None:
    listed = ModelPrice(
        input_mtok=TieredPrices(base=Decimal("1.25"), tiers=[Tier(100, Decimal("2.5"))]),
        output_mtok=TieredPrices(base=Decimal(10), tiers=[Tier(200, Decimal(15))]),
        cache_read_mtok=Decimal("0.3"),
    )
    prices = as_prices(listed)
    assert prices is not None
    plain = {"cached_prompt": 300_000, "cache_write_prompt": None}
    assert prices == {
        "prompt": 1_250_000,
        "completion": 10_000_000,
        **plain,
        "tiers": [
            {
                "above_prompt_tokens": 100,
                "prompt": 2_500_000,
                "completion": 10_000_000,
                **plain,
            },
            {
                "above_prompt_tokens": 200,
                "prompt": 2_500_000,
                "completion": 15_000_000,
                **plain,
            },
        ],
    }


def test_a_dated_price_holds_from_its_day() -> None:
    info = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[
            ConditionalPrice(
                prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2)),
            ),
            ConditionalPrice(
                StartDateConstraint(date(2026, 1, 1)),
                prices=ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(4)),
            ),
        ],
    )
    before = as_prices(info.get_prices(datetime(2025, 12, 31, tzinfo=UTC)))
    after = as_prices(info.get_prices(datetime(2026, 1, 1, tzinfo=UTC)))
    assert before is not None
    assert after is not None
    assert (before["prompt"], after["prompt"]) == (1_000_000, 3_000_000)


def test_a_price_that_is_not_per_token_is_no_price() -> None:
    assert as_prices(ModelPrice(requests_kcount=Decimal(1))) is None


BROKEN = {
    "fails": "raise SystemExit('no luck')",
    "speaks no JSON": "print('hello')",
    "answers something else": "print('[1]')",
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_child_that_fails_costs_the_prices_and_one_warning(
    script: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = tmp_path / "child.py"
    child.write_text(script)
    with caplog.at_level(logging.WARNING):
        assert await find_prices(load_catalog(), script=child) == {}
    assert len(caplog.records) == 1
    assert "Prices are unknown" in caplog.text


async def test_a_child_that_hangs_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)")
    assert await find_prices(load_catalog(), script=child, timeout_s=0.2) == {}
    assert "longer than" in caplog.text


async def test_cancelling_the_look_up_ends_the_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = tmp_path / "child.py"
    child.write_text(
        "import os, pathlib, time\n"
        f"path = pathlib.Path({str(pid_file)!r})\n"
        "path.with_suffix('.new').write_text(str(os.getpid()))\n"
        "path.with_suffix('.new').rename(path)\n"
        "time.sleep(60)\n"
    )
    task = asyncio.create_task(find_prices(load_catalog(), script=child))
    async with asyncio.timeout(10):
        while not pid_file.exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_without_the_package_prices_are_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert await find_prices(load_catalog()) == {}
    assert "is not installed" in caplog.text


async def test_the_child_sees_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZAI_API_KEY", "hunter2")
    child = tmp_path / "child.py"
    child.write_text("import os; raise SystemExit(' '.join(os.environ))")
    await find_prices(load_catalog(), script=child)
    assert "PYTHONPATH" in caplog.text
    assert "ZAI_API_KEY" not in caplog.text
