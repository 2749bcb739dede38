"""Prices: the data file of the release, or a newer package beside the gateway, read by a child."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from support.builders.catalogs import load_catalog
from support.waiting import PATIENCE_S, eventually

from workers.catalog import price_list
from workers.catalog.catalog import Model, Prices
from workers.catalog.price_list import as_dated_prices, as_prices
from workers.catalog.prices import (
    PACKAGE,
    DatedPrices,
    ListedModel,
    ListedProvider,
    PriceList,
    bundled_list,
    find_prices,
    installed_version,
    matches,
    newer,
)

TODAY = date(2026, 6, 1)


def test_the_data_file_is_what_the_package_says() -> None:
    written = files("workers.catalog").joinpath("price_list.json").read_text()
    assert installed_version(PACKAGE) == bundled_list().version
    assert written == price_list.write(price_list.price_list())


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.openai.com/v1",
        "https://api.anthropic.com/v1",
        "https://openrouter.ai/api/v1",
        "https://ai-gateway.vercel.sh/v1",
    ],
)
def test_a_look_up_finds_what_the_package_finds(base_url: str) -> None:
    now = datetime.now(UTC)
    snapshot, listed = get_snapshot(), bundled_list()
    names = {model.id for provider in snapshot.providers for model in provider.models}
    names |= {"gpt-5.2-20251211", "claude-sonnet-4-20250514", "GPT-4o", "no such model"}
    compared = 0
    for name in names:
        try:
            _, info = snapshot.find_provider_model(name, None, None, base_url)
        except LookupError:
            expected = None
        else:
            if is_by_time_of_day(info):
                continue
            prices = as_prices(info.get_prices(now))
            expected = None if prices is None else msgspec.convert(prices, Prices)
        assert listed.find(base_url, name, now.date()) == expected, name
        compared += 1
    assert compared > 1000


def is_by_time_of_day(info: ModelInfo) -> bool:
    """Return whether the prices of a model depend on the hour."""
    listed = info.prices if isinstance(info.prices, list) else []
    return any(isinstance(each.constraint, TimeOfDateConstraint) for each in listed)


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


async def test_the_first_deployment_with_a_known_price_decides() -> None:
    places = [
        ("http://127.0.0.1/v1", "x"),
        ("https://api.groq.com", "none-such"),
        ("https://api.openai.com/v1", "gpt-4o"),
        ("https://api.openai.com/v1", "gpt-4o-mini"),
    ]
    deployments = [
        {"provider": "openai", "base_url": base_url, "upstream_model": name}
        for base_url, name in places
    ]
    found = await find_prices(load_catalog([{"id": "m", "deployments": deployments}]))
    assert found["m"].prompt == 2_500_000


async def test_a_live_deployment_decides_before_one_that_lacks_its_secret() -> None:
    openai = {"provider": "openai", "base_url": "https://api.openai.com/v1"}
    deployments = [
        openai | {"upstream_model": "gpt-4o", "secret_env": "NOT_SET"},
        openai | {"upstream_model": "gpt-4o-mini", "order": 2},
    ]
    found = await find_prices(load_catalog([{"id": "m", "deployments": deployments}]))
    assert found["m"].prompt == 150_000


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ({"equals": "GPT-4o"}, "gpt-4o", True),
        ({"equals": "gpt-4o"}, "gpt-4o-mini", False),
        ({"starts_with": "gpt-"}, "gpt-4o", True),
        ({"starts_with": "gpt-"}, "my-gpt-4o", False),
        ({"ends_with": "-mini"}, "gpt-4o-mini", True),
        ({"contains": "4o"}, "gpt-4o-mini", True),
        ({"regex": "^gpt-[0-9]"}, "gpt-4o", True),
        ({"regex": "^[0-9]"}, "gpt-4o", False),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", True),
        ({"and": [{"contains": "a"}, {"contains": "b"}]}, "a", False),
        ({"and": [{"contains": "a"}, {"or": [{"contains": "b"}]}]}, "ab", True),
        ({"a kind of a later version": "a"}, "a", False),
    ],
)
def test_a_rule_recognizes_names(rule: dict[str, object], name: str, expected: bool) -> None:
    assert matches(rule, name) is expected


def listed(*dated: DatedPrices) -> PriceList:
    """Return a list with one provider and one model."""
    model = ListedModel({"equals": "m"}, dated)
    return PriceList("p", "1", "MIT", {"x": ListedProvider("https://x", (model,), ())})


@pytest.mark.parametrize(
    ("today", "prompt"), [(date(2025, 12, 31), 1), (date(2026, 1, 1), 3), (date(2030, 1, 1), 3)]
)
def test_a_dated_price_holds_from_its_day(today: date, prompt: int) -> None:
    dated = as_dated_prices(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))),
            ConditionalPrice(
                StartDateConstraint(date(2026, 1, 1)),
                prices=ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(4)),
            ),
        ]
    )
    prices = listed(*msgspec.convert(dated, tuple[DatedPrices, ...])).find("https://x", "m", today)
    assert prices is not None
    assert prices.prompt == prompt * 1_000_000


def test_before_the_first_day_the_first_price_holds() -> None:
    only = DatedPrices("2027-01-01", Prices(prompt=1, completion=2))
    assert listed(only).find("https://x", "m", TODAY) == only.prices


def test_of_prices_by_the_time_of_day_the_dearest_counts() -> None:
    night = TimeOfDateConstraint(time(0), time(8))
    cheap, dear = (ModelPrice(input_mtok=Decimal(n), output_mtok=Decimal(n)) for n in (1, 2))
    dated = as_dated_prices([ConditionalPrice(prices=dear), ConditionalPrice(night, prices=cheap)])
    assert [each["prices"]["prompt"] for each in dated] == [2_000_000]


def test_a_model_that_is_not_sold_by_the_token_has_no_price() -> None:
    assert as_prices(ModelPrice(requests_kcount=Decimal(1))) is None
    assert as_dated_prices(ModelPrice(requests_kcount=Decimal(1))) == []
    assert listed().find("https://x", "m", TODAY) is None


def test_tiers_of_single_kinds_of_tokens_become_tiers_of_the_whole_price() -> None:
    listed = ModelPrice(
        input_mtok=TieredPrices(base=Decimal("1.25"), tiers=[Tier(100, Decimal("2.5"))]),
        output_mtok=TieredPrices(base=Decimal(10), tiers=[Tier(200, Decimal(15))]),
        cache_read_mtok=Decimal("0.3"),
    )
    prices = as_prices(listed)
    assert prices is not None
    plain = {"cached_prompt": 300_000}
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


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        ("0.2.4", "0.2.3", True),
        ("0.10.0", "0.9.1", True),
        ("1.0", "0.9.9", True),
        ("0.2.3", "0.2.3", False),
        ("0.2.2", "0.2.3", False),
        ("", "0.2.3", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, than: str, expected: bool) -> None:
    assert newer(version, than) is expected


CHEAP = PriceList(
    PACKAGE,
    "9.0.0",
    "MIT",
    {
        "all": ListedProvider(
            "https://",
            (ListedModel({"contains": ""}, (DatedPrices("", Prices(prompt=7, completion=7)),)),),
            (),
        )
    },
)


@pytest.fixture
def newer_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lay a newer package beside the gateway, and write the script that reads it."""
    about = tmp_path / "genai_prices-9.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9.0.0\n")
    monkeypatch.syspath_prepend(tmp_path)

    def script(text: str) -> Path:
        path = tmp_path / "child.py"
        path.write_text(text)
        return path

    return script


async def test_a_newer_package_beside_the_gateway_decides(
    newer_package: Callable[[str], Path],
) -> None:
    child = newer_package(f"print({msgspec.json.encode(CHEAP).decode()!r})")
    found = await find_prices(load_catalog(), script=child, timeout_s=PATIENCE_S)
    assert {prices.prompt for prices in found.values()} == {7}


async def test_the_script_itself_reads_what_is_installed(
    newer_package: Callable[[str], Path],
) -> None:
    newer_package("")
    assert await find_prices(load_catalog()) == await bundled_prices()


async def test_without_a_newer_package_no_child_is_started(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(f"open({str(tmp_path / 'started')!r}, 'w')")
    assert await find_prices(load_catalog(), script=child, timeout_s=PATIENCE_S)
    assert not (tmp_path / "started").exists()


async def bundled_prices() -> dict[str, Prices]:
    """Return the prices of the built-in models by the data file alone."""
    listed = bundled_list()
    found: dict[str, Prices] = {}
    for model in load_catalog():
        for each in sorted(model.deployments, key=lambda one: one.order):
            prices = listed.find(each.base_url, each.upstream_model, datetime.now(UTC).date())
            if prices is not None:
                found.setdefault(model.id, prices)
    return found


BROKEN = {
    "fails": "raise SystemExit('no luck')",
    "speaks no JSON": "print('hello')",
    "answers something else": "print('[1]')",
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_package_that_cannot_be_read_costs_one_warning(
    script: str, newer_package: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    child = newer_package(script)
    with caplog.at_level(logging.WARNING):
        assert (
            await find_prices(load_catalog(), script=child, timeout_s=PATIENCE_S)
            == await bundled_prices()
        )
    assert len(caplog.records) == 1
    assert "genai-prices 9.0.0 is installed and cannot be read" in caplog.text


async def test_a_child_that_hangs_is_killed(
    newer_package: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    child = newer_package("import time; time.sleep(600)")
    assert await find_prices(load_catalog(), script=child, timeout_s=0.2) == await bundled_prices()
    assert "longer than" in caplog.text


async def test_cancelling_the_look_up_ends_the_child(
    newer_package: Callable[[str], Path], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    child = newer_package(
        "import os, pathlib, time\n"
        f"path = pathlib.Path({str(pid_file)!r})\n"
        "path.with_suffix('.new').write_text(str(os.getpid()))\n"
        "path.with_suffix('.new').rename(path)\n"
        "time.sleep(600)\n"
    )
    task = asyncio.create_task(find_prices(load_catalog(), script=child, timeout_s=PATIENCE_S))
    await eventually(pid_file.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_the_child_sees_nothing_of_the_environment(
    newer_package: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ZAI_API_KEY", "hunter2")
    child = newer_package("import os; raise SystemExit(' '.join(os.environ))")
    await find_prices(load_catalog(), script=child, timeout_s=PATIENCE_S)
    assert "PYTHONPATH" in caplog.text
    assert "ZAI_API_KEY" not in caplog.text
