"""GET models from outside: OpenAI's shape, what Roxy adds to it, and who sees what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from genai_prices import Usage, calc_price
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, OWNER, Door, bearer, front_door
from support.schemas import validate_error, validate_model, validate_model_list
from support.visitors import guest

FOUR = {
    "zai/glm-4.5": ("GLM 4.5", 128_000, ["text"]),
    "google/gemini-2.5-pro": ("Gemini 2.5 Pro", 1_048_576, ["text", "image"]),
    "meta/llama-3.3-70b": ("Llama 3.3 70B", 131_072, ["text"]),
    "anthropic/claude-sonnet-4": ("Claude Sonnet 4", 200_000, ["text", "image"]),
}
FIELDS = {
    "id",
    "object",
    "created",
    "owned_by",
    "name",
    "description",
    "context_window",
    "context_length",
    "max_model_len",
    "max_output_tokens",
    "modalities",
    "prices",
    "endpoints",
    "available",
    "demo",
}
LISTED = {
    "zai/glm-4.5": ("zai", "glm-4.5"),
    "google/gemini-2.5-pro": ("google", "gemini-2.5-pro"),
    "meta/llama-3.3-70b": ("groq", "llama-3.3-70b-versatile"),
    "anthropic/claude-sonnet-4": ("anthropic", "claude-sonnet-4-20250514"),
}
"""Whose price list holds when nobody's key is set: that of the first deployment."""


async def test_the_list_is_openais_with_the_catalog_in_its_order(bare_door: Door) -> None:
    answer = await bare_door.get("/api/v1/models?all=true")
    assert answer.status_code == 200
    validate_model_list(answer.json())
    models = answer.json()["data"]
    assert [model["id"] for model in models] == list(FOUR)
    for model in models:
        assert set(model) == FIELDS
        validate_model({name: model[name] for name in ("id", "object", "created", "owned_by")})
        name, context_window, inputs = FOUR[model["id"]]
        assert (model["name"], model["context_window"]) == (name, context_window)
        assert model["context_length"] == model["max_model_len"] == context_window
        assert 0 < model["max_output_tokens"] <= context_window
        assert model["modalities"] == {"input": inputs, "output": ["text"]}
        assert model["description"] and "\n" not in model["description"]
        assert model["endpoints"] == ["chat.completions"]
        assert 1_700_000_000 < model["created"] < 1_800_000_000
    assert (await bare_door.get("/api/models?all=true")).json() == answer.json()
    assert (await bare_door.get("/api/v1/models", None)).status_code == 401


async def test_the_longest_answer_is_the_one_that_the_caller_may_ask_for(door: Door) -> None:
    whole = (await door.get(f"/api/v1/models/{MODEL}")).json()["max_output_tokens"]
    small = await door.mint("small", limits={"tokens_per_minute": 700})
    large = await door.mint("large", limits={"tokens_per_minute": whole + 1})
    for key, most in ((small, 700), (large, whole)):
        assert (await door.get(f"/api/v1/models/{MODEL}", key)).json()["max_output_tokens"] == most
        (listed,) = (await door.get("/api/v1/models", key)).json()["data"]
        assert listed["max_output_tokens"] == most
    assert (await door.chat(key=small, max_tokens=701)).status_code == 429


async def test_the_built_in_four_have_the_prices_of_genai_prices(bare_door: Door) -> None:
    tokens = 100_000  # below the threshold of any tier
    for model in (await bare_door.get("/api/v1/models?all=true")).json()["data"]:
        prices = model["prices"]
        assert (prices["currency"], prices["per_tokens"]) == ("USD", 1_000_000)
        provider, name = LISTED[model["id"]]
        usage = Usage(input_tokens=tokens, output_tokens=tokens)
        listed = calc_price(usage, name, provider_id=provider)
        assert prices["prompt"] == pytest.approx(float(listed.input_price) * 10)
        assert prices["completion"] == pytest.approx(float(listed.output_price) * 10)
    gemini = (await bare_door.get("/api/v1/models/google/gemini-2.5-pro")).json()["prices"]
    (tier,) = gemini["tiers"]
    assert tier["above_prompt_tokens"] == 200_000 and tier["prompt"] > gemini["prompt"]


async def test_prices_stated_in_the_configuration_win_and_unknown_ones_are_null(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        stated = "prices = { prompt = 1.25, completion = 10, cached_prompt = 0.125 }"
        async with front_door(tmp_path, upstream, prices=stated) as door:
            prices = (await door.get(f"/api/v1/models/{MODEL}")).json()["prices"]
            assert prices == {
                "currency": "USD",
                "per_tokens": 1_000_000,
                "prompt": 1.25,
                "completion": 10.0,
                "cached_prompt": 0.125,
            }
        async with front_door(tmp_path, upstream, prices="") as door:
            model = (await door.get(f"/api/v1/models/{MODEL}")).json()
            assert model["prices"] is None and model["available"] is True


@pytest.mark.parametrize("written", ["zai/glm-4.5", "zai%2Fglm-4.5", "zai%2fglm-4%2E5"])
async def test_a_single_model_is_found_however_its_slash_is_written(
    door: Door, written: str
) -> None:
    listed = (await door.get("/api/v1/models?all=true")).json()["data"]
    for prefix in ("/api", "/api/v1"):
        answer = await door.get(f"{prefix}/models/{written}")
        assert answer.status_code == 200
        assert answer.json() == listed[0]


async def test_the_openai_client_lists_and_retrieves(demo_door: Door) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{demo_door.url}/api/v1", api_key=OWNER, max_retries=0
    ) as client:
        assert [model.id async for model in client.models.list()] == list(FOUR)
        model: Any = await client.models.retrieve("google/gemini-2.5-pro")
        assert model.id == "google/gemini-2.5-pro" and model.context_window == 1_048_576
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("no/such")
        assert missing.value.code == "model_not_found"


async def test_a_model_that_is_not_there_is_a_404_whatever_its_name(door: Door) -> None:
    names = (
        "no/such",
        "zai",
        "%00",
        "%ff",
        "..%2fkeys",
        "x" * 3000,
        "%F0%9F%8D%8B",
    )
    for name in names:
        answer = await door.get(f"/api/v1/models/{name}")
        assert answer.status_code == (400 if name == "%ff" else 404), name
        validate_error(answer.json())
        if answer.status_code == 404:
            assert answer.json()["error"]["code"] == "model_not_found"


async def test_what_can_be_served_now_is_told_and_what_is_only_a_demo(tmp_path: Path) -> None:
    async def flags(**options: Any) -> dict[str, tuple[bool, bool]]:
        async with front_door(tmp_path, **options) as door:
            models = (await door.get("/api/v1/models?all=true")).json()["data"]
            listed = (await door.get("/api/v1/models")).json()["data"]
            assert listed == [model for model in models if model["available"]]
            return {model["id"]: (model["available"], model["demo"]) for model in models}

    llama = "meta/llama-3.3-70b"
    assert await flags() == dict.fromkeys(FOUR, (False, False))
    groq = {"GROQ_API_KEY": "a-key-of-groq"}
    assert await flags(environ=groq) == dict.fromkeys(FOUR, (False, False)) | {llama: (True, False)}
    assert await flags(demo=True) == dict.fromkeys(FOUR, (True, True))
    both = dict.fromkeys(FOUR, (True, True)) | {llama: (True, False)}
    assert await flags(demo=True, environ=groq) == both


@pytest.mark.gateway(environ={"OPENROUTER_API_KEY": "a-secret-of-openrouter"})
async def test_no_model_tells_where_it_is_served_or_with_which_secret(demo_door: Door) -> None:
    text = (await demo_door.get("/api/v1/models")).text
    for hidden in ("openrouter", "a-secret", "http", "127.0.0.1", "API_KEY"):
        assert hidden not in text.lower() and hidden not in text


@pytest.mark.gateway(settings='[guests]\nmodels = ["zai/glm-4.5"]\n')
async def test_guests_see_the_models_they_may_use(demo_door: Door) -> None:
    door = demo_door
    browser = guest(door)
    listed = await door.client.get("/api/v1/models", headers=browser)
    assert [model["id"] for model in listed.json()["data"]] == ["zai/glm-4.5"]
    for model_id, status in (("zai/glm-4.5", 200), ("meta/llama-3.3-70b", 404)):
        answer = await door.client.get(f"/api/v1/models/{model_id}", headers=browser)
        assert answer.status_code == status


async def test_guests_get_no_prices(door: Door) -> None:
    browser, key = guest(door), bearer(await door.mint())
    for headers, priced in ((browser, False), (key, True), (bearer(OWNER), True)):
        (listed,) = (await door.client.get("/api/v1/models", headers=headers)).json()["data"]
        one = (await door.client.get(f"/api/v1/models/{MODEL}", headers=headers)).json()
        assert (listed["prices"] is not None, one["prices"] is not None) == (priced, priced)


async def test_only_the_owner_lists_what_cannot_be_used_now(door: Door) -> None:
    secret = await door.mint()
    listed = await door.get("/api/v1/models", secret)
    assert [model["id"] for model in listed.json()["data"]] == [MODEL]
    assert (await door.get("/api/v1/models?all=false", secret)).json() == listed.json()
    for key, query, status in (
        (secret, "all=true", 403),
        (OWNER, "all=1", 400),
        (OWNER, "x=1", 200),
    ):
        assert (await door.get(f"/api/v1/models?{query}", key)).status_code == status
