"""Rules of the catalog: what is built in, how `roxy.toml` changes it, and what an answer costs."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from support.builders.catalogs import load_catalog

from workers.base_url import checked_base_url
from workers.catalog.catalog import Catalog, Deployment, Model, Prices, PriceTier
from workers.catalog.deployment_checks import (
    checked_secret,
    host_label,
    looks_like_a_secret,
)
from workers.catalog.entries import CatalogError
from workers.catalog.quirks import Clocks
from workers.errors import ModelNotFound
from workers.money import to_microusd
from workers.request.token_usage import Usage

LOCAL: dict[str, Any] = {
    "provider": "openai",
    "base_url": "http://127.0.0.1:11434/v1",
    "upstream_model": "qwen3:8b",
}


def with_deployment(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "local/qwen", "deployments": [{**LOCAL, **changes}]}]


def test_the_built_in_catalog_has_the_four_models_in_their_order() -> None:
    assert list(load_catalog().models) == [
        "zai/glm-4.5",
        "google/gemini-2.5-pro",
        "meta/llama-3.3-70b",
        "anthropic/claude-sonnet-4",
    ]


@pytest.mark.parametrize(
    ("model_id", "context", "output", "inputs", "released"),
    [
        ("zai/glm-4.5", 128_000, 98_304, ("text",), 1753660800),
        ("google/gemini-2.5-pro", 1_048_576, 65_536, ("text", "image"), 1750118400),
        ("meta/llama-3.3-70b", 131_072, 32_768, ("text",), 1733443200),
        ("anthropic/claude-sonnet-4", 200_000, 64_000, ("text", "image"), 1747872000),
    ],
)
def test_the_facts_of_the_built_in_models(
    model_id: str, context: int, output: int, inputs: tuple[str, ...], released: int
) -> None:
    model = load_catalog().find(model_id)
    assert (model.context_window, model.max_output_tokens) == (context, output)
    assert (model.input_modalities, model.output_modalities) == (inputs, ("text",))
    assert (model.owned_by, model.released) == (model_id.split("/", maxsplit=1)[0], released)
    assert "\n" not in model.description
    assert model.description.startswith("Best at ")


@pytest.mark.parametrize("variable", ["AI_GATEWAY_API_KEY", "OPENROUTER_API_KEY"])
def test_one_gateway_key_makes_every_model_servable(variable: str) -> None:
    catalog = load_catalog([], {variable: "secret"})
    for model in catalog:
        assert [each.secret_env for each in model.live_deployments()] == [variable]


def test_without_any_key_nothing_is_live_and_the_missing_variables_are_named() -> None:
    catalog = load_catalog()
    model = catalog.find("zai/glm-4.5")
    assert model.live_deployments() == ()
    assert model.missing_secrets() == (
        "ZAI_API_KEY",
        "AI_GATEWAY_API_KEY",
        "OPENROUTER_API_KEY",
    )


def test_live_deployments_come_by_order_then_as_written() -> None:
    variables = ("GROQ_API_KEY", "OPENROUTER_API_KEY", "AI_GATEWAY_API_KEY")
    model = load_catalog([], dict.fromkeys(variables, "s")).find("meta/llama-3.3-70b")
    ids = [each.id for each in model.live_deployments()]
    assert ids == [
        "meta/llama-3.3-70b@vercel",
        "meta/llama-3.3-70b@openrouter",
        "meta/llama-3.3-70b@groq",
    ]


def test_an_unknown_model_is_not_found_and_the_field_is_named() -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_catalog().find("nobody/nothing")
    assert caught.value.param == "model"
    assert "'nobody/nothing'" in caught.value.message


@pytest.mark.parametrize("name", ["x" * 5000, "a\nb", "\x1b[31m"])
def test_a_hostile_model_name_is_not_thrown_back(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_catalog().find(name)
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()


def test_an_entry_overrides_only_the_fields_it_names() -> None:
    before = load_catalog().find("zai/glm-4.5")
    after = load_catalog([{"id": "zai/glm-4.5", "name": "Mine"}]).find("zai/glm-4.5")
    assert after.name == "Mine"
    assert (after.description, after.deployments) == (before.description, before.deployments)


def test_deployments_of_an_entry_replace_the_built_in_ones() -> None:
    model = load_catalog([{"id": "zai/glm-4.5", "deployments": [LOCAL]}]).find("zai/glm-4.5")
    assert [each.base_url for each in model.live_deployments()] == ["http://127.0.0.1:11434/v1"]
    assert model.context_window == 128_000


@pytest.mark.parametrize(
    ("entry", "most"),
    [
        ({"id": "zai/glm-4.5", "context_window": 4096}, 4096),
        ({"id": "zai/glm-4.5", "max_output_tokens": 500_000}, 128_000),
        ({"id": "qwen", "context_window": 4096, "max_output_tokens": 8192}, 4096),
        ({"id": "qwen", "context_window": 4096, "max_output_tokens": 1024}, 1024),
    ],
)
def test_no_answer_is_longer_than_the_context(entry: dict[str, Any], most: int) -> None:
    model = load_catalog([{"deployments": [LOCAL], **entry}]).find(entry["id"])
    assert model.max_output_tokens == most


def test_a_new_model_is_filled_with_defaults_that_fit() -> None:
    entry = {"id": "qwen", "context_window": 4096, "deployments": [LOCAL, LOCAL]}
    model = load_catalog([entry]).find("qwen")
    assert (model.name, model.owned_by, model.released) == ("qwen", "local", 0)
    assert (model.max_output_tokens, model.input_modalities) == (4096, ("text",))
    assert [each.id for each in model.deployments] == ["qwen@127.0.0.1", "qwen@127.0.0.1#2"]
    assert [each.live for each in model.deployments] == [True, True]


def test_a_provider_without_a_translator_is_kept_but_never_tried() -> None:
    catalog = load_catalog(with_deployment(provider="google", secret_env="G"), {"G": "s"})
    model = catalog.find("local/qwen")
    [deployment] = model.deployments
    assert (deployment.supported, deployment.has_secret, deployment.live) == (False, True, False)
    assert model.live_deployments() == ()
    assert model.max_concurrency == 0
    assert model.missing_secrets() == ()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"id": "new"}], "needs at least one [[models.deployments]] table - at `$.models[0]`"),
        ([{"id": "new", "deployments": []}], "needs at least one"),
        ([{"name": "x"}], "missing required field `id` - at `$.models[0]`"),
        ([{"id": "a b", "deployments": [LOCAL]}], "at `$.models[0].id`"),
        (
            [{"id": "zai/glm-4.5", "colour": 1}],
            "unknown field `colour` - at `$.models[0]`; the fields are id, name, description, ",
        ),
        ([{"id": "zai/glm-4.5", "context_window": "1"}], "at `$.models[0].context_window`"),
        ([{"id": "zai/glm-4.5", "context_window": "1"}], "model 'zai/glm-4.5': "),
        (with_deployment(provider="aws"), "model 'local/qwen': "),
        ([{"id": "zai/glm-4.5", "context_window": True}], "at `$.models[0].context_window`"),
        ([{"id": "zai/glm-4.5", "input_modalities": ["smell"]}], "$.models[0].input_modalities"),
        ([{"id": "zai/glm-4.5"}, {"id": "zai/glm-4.5"}], "occurs twice - at `$.models[1].id`"),
        (with_deployment(provider="aws"), "'aws' - at `$.models[0].deployments[0].provider`"),
        (with_deployment(order=-1), "at `$.models[0].deployments[0].order`"),
        (with_deployment(weight=0), "at `$.models[0].deployments[0].weight`"),
        (with_deployment(max_concurrency=0), "at `$.models[0].deployments[0].max_concurrency`"),
        (with_deployment(base_url="ftp://h"), "at `$.models[0].deployments[0].base_url`"),
        (with_deployment(secret_env="a b"), "at `$.models[0].deployments[0].secret_env`"),
        (
            with_deployment(url="http://h"),
            "unknown field `url` - at `$.models[0].deployments[0]`; the fields are provider, base",
        ),
        (
            [{"id": "zai/glm-4.5", "prices": {"input": 1}}],
            "unknown field `input` - at `$.models[0].prices`; the fields are prompt, completion, ",
        ),
        (
            [{"id": "zai/glm-4.5", "prices": {"tiers": [{"above": 1}]}}],
            "`above` - at `$.models[0].prices.tiers[0]`; the fields are above_prompt_tokens, ",
        ),
        ([{"id": "zai/glm-4.5", "prices": [{"prompt": 1}]}], "at `$.models[0].prices`"),
        ([{"id": "zai/glm-4.5", "deployments": {"url": 1}}], "at `$.models[0].deployments`"),
        (
            [{"id": "zai/glm-4.5", "prices": {"prompt": 1}}],
            "`completion` - at `$.models[0].prices`",
        ),
    ],
)
def test_a_wrong_entry_is_refused_with_its_path(entries: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog(entries)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "file:///etc/passwd",
        "http://",
        "http://user:hunter2@host/v1",
        "http://host/v1?key=hunter2",
        "http://host/v1#hunter2",
        "http://host:port/v1",
        "http://host:99999/v1",
        "http://ho st/v1",
        "http://host/v1\r\nX: hunter2",
        "http://[::1/v1",
    ],
)
def test_a_base_url_that_is_no_plain_http_url_is_refused_unseen(url: str) -> None:
    with pytest.raises(ValueError, match="the URL") as caught:
        checked_base_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_trailing_slash_of_a_base_url_is_dropped() -> None:
    assert checked_base_url("https://host:8443/v1/") == "https://host:8443/v1"


@pytest.mark.parametrize(
    "value",
    [
        "sk-abcdef",
        "sk-or-v1-0123456789abcdef",
        "gsk_abcdefghijklmnop1234",
        "AIzaSyA1234567890abcdefghij",
        "vck_abc",
        "roxy_abcdef",
        "0123456789abcdef0123456789abcdef",
        "Bearer abc",
    ],
)
def test_a_pasted_secret_is_refused_as_a_variable_name_and_not_repeated(value: str) -> None:
    assert looks_like_a_secret(value)
    with pytest.raises(CatalogError, match="looks like the secret itself") as caught:
        load_catalog(with_deployment(secret_env=value))
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["OPENROUTER_API_KEY", "my_key", "SK_KEY", "_X", "HF_TOKEN"])
def test_ordinary_variable_names_are_accepted(name: str) -> None:
    assert not looks_like_a_secret(name)
    load_catalog(with_deployment(secret_env=name))


def test_space_around_a_secret_is_dropped() -> None:
    assert checked_secret(" abc\n") == "abc"


@pytest.mark.parametrize("value", ["a b", "a\r\nX-Evil: 1", "schlüssel"])
def test_a_secret_that_no_header_can_hold_is_refused_by_its_variable(value: str) -> None:
    with pytest.raises(CatalogError, match="the environment variable ZAI_API_KEY") as caught:
        load_catalog([], {"ZAI_API_KEY": value})
    assert value not in str(caught.value)


def test_no_representation_shows_the_secret() -> None:
    catalog = load_catalog([], {"ZAI_API_KEY": "hunter2"})
    model = catalog.find("zai/glm-4.5")
    assert model.deployments[0].secret == "hunter2"
    assert "hunter2" not in f"{model!r} {model} {model.deployments[0].__rich_repr__()}"


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://ai-gateway.vercel.sh/v1", "vercel"),
        ("https://api.z.ai/api", "z.ai"),
        ("http://localhost:11434/v1", "localhost"),
        ("http://[::1]:80/v1", "::1"),
    ],
)
def test_deployments_are_named_after_their_host(url: str, label: str) -> None:
    assert host_label(url) == label


@pytest.mark.parametrize(
    ("text", "expected"), [("0.6", 600_000), ("2", 2_000_000), ("0.1", 100_000), ("1e-7", 1)]
)
def test_dollars_become_micro_dollars_exactly(text: str, expected: int) -> None:
    assert to_microusd(tomllib.loads(f"x = {text}")["x"]) == expected


def test_stated_prices_are_dollars_per_million_tokens() -> None:
    tier = {"above_prompt_tokens": 200_000, "prompt": 2.5, "completion": 15}
    stated = {"prompt": 0.6, "completion": 2.2, "cached_prompt": 0.11, "tiers": [tier]}
    prices = load_catalog([{"id": "zai/glm-4.5", "prices": stated}]).find("zai/glm-4.5").prices
    assert prices == Prices(
        prompt=600_000,
        completion=2_200_000,
        cached_prompt=110_000,
        tiers=(PriceTier(above_prompt_tokens=200_000, prompt=2_500_000, completion=15_000_000),),
    )


PLAIN = Prices(prompt=600_000, completion=2_200_000)
FULL = Prices(
    prompt=3_000_000,
    completion=15_000_000,
    cached_prompt=300_000,
    cache_write_prompt=3_750_000,
    tiers=(PriceTier(above_prompt_tokens=1000, prompt=6_000_000, completion=20_000_000),),
)


@pytest.mark.parametrize(
    ("prices", "usage", "microusd_"),
    [
        (PLAIN, Usage(), 0),
        (PLAIN, Usage(prompt_tokens=1), 1),  # 0.6 rounded up
        (PLAIN, Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000), 2_800_000),
        (PLAIN, Usage(prompt_tokens=10, cached_tokens=10), 6),  # no price of their own
        (FULL, Usage(prompt_tokens=100, cached_tokens=100), 30),
        (FULL, Usage(prompt_tokens=100, cached_tokens=40, cache_write_tokens=20), 207),
        (FULL, Usage(prompt_tokens=10, cached_tokens=99), 3),  # parts never exceed the whole
        (FULL, Usage(prompt_tokens=10, cached_tokens=8, cache_write_tokens=99), 10),
        (FULL, Usage(prompt_tokens=1000, completion_tokens=1), 3015),
        (FULL, Usage(prompt_tokens=1001, completion_tokens=1), 6026),  # the tier, for all of it
        (FULL, Usage(prompt_tokens=1001, cached_tokens=1001), 6006),
        (Prices(prompt=0, completion=0), Usage(prompt_tokens=5, completion_tokens=5), 0),
    ],
)
def test_what_usage_costs(prices: Prices, usage: Usage, microusd_: int) -> None:
    assert prices.cost_microusd(usage) == microusd_


@pytest.mark.parametrize("cached", [0, 50, 100])
@pytest.mark.parametrize("written", [0, 50, 100])
@pytest.mark.parametrize("prompt", [100, 1001])
def test_the_worst_case_covers_every_mix_of_tokens(prompt: int, cached: int, written: int) -> None:
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=7,
        cached_tokens=cached,
        cache_write_tokens=written,
    )
    assert FULL.worst_case_microusd(prompt, 7) >= FULL.cost_microusd(usage)


def test_the_worst_case_takes_the_dearest_tier_of_each_kind() -> None:
    long = PriceTier(above_prompt_tokens=1000, prompt=6_000_000, completion=2_000_000)
    prices = Prices(prompt=3_000_000, completion=9_000_000, tiers=(long,))
    assert prices.worst_case_microusd(2000, 10) == 2000 * 6 + 10 * 9
    assert prices.worst_case_microusd(1000, 10) == 1000 * 3 + 10 * 9


def test_tiers_may_be_stated_in_any_order() -> None:
    tiers = [
        {"above_prompt_tokens": above, "prompt": price, "completion": price}
        for above, price in ((2000, 3.0), (1000, 2.0))
    ]
    stated = {"prompt": 1.0, "completion": 1.0, "tiers": tiers}
    prices = load_catalog([{"id": "zai/glm-4.5", "prices": stated}]).find("zai/glm-4.5").prices
    assert prices is not None
    costs = [prices.cost_microusd(Usage(prompt_tokens=tokens)) for tokens in (1000, 2000, 3000)]
    assert costs == [1000, 4000, 9000]


def test_found_prices_fill_gaps_and_never_replace_stated_ones() -> None:
    catalog = Catalog([Model(id="a", name="a"), Model(id="b", name="b", prices=PLAIN)])
    priced = catalog.priced({"a": FULL, "b": FULL, "c": FULL})
    assert [model.prices for model in priced] == [FULL, PLAIN]


def test_a_model_is_served_by_the_demo_only_while_nothing_else_is_live() -> None:
    demo = Deployment("m@demo", "openai", "http://127.0.0.1:1/v1", "m", secret="s", demo=True)
    real = Deployment("m@real", "openai", "http://127.0.0.1:2/v1", "m")
    assert Model(id="m", name="m", deployments=(demo,)).served_by_demo
    assert not Model(id="m", name="m", deployments=(demo, real)).served_by_demo
    assert not Model(id="m", name="m").served_by_demo


@pytest.mark.parametrize(
    ("base_url", "stated", "field"),
    [
        ("https://api.openai.com/v1", "", "max_completion_tokens"),
        ("https://our.openai.azure.com/openai/v1", "", "max_completion_tokens"),
        ("https://API.Mistral.ai/v1", "", "max_tokens"),
        ("https://api.openai.com/v1", "both", "both"),
        ("https://api.openai.com.example/v1", "", ""),
        ("http://127.0.0.1:8000/v1", "", ""),
    ],
)
def test_a_known_host_gets_the_cap_in_the_member_that_it_obeys(
    base_url: str, stated: str, field: str
) -> None:
    deployment = {"provider": "openai", "base_url": base_url, "upstream_model": "m"}
    entry = {"id": "a/b", "deployments": [deployment | {"max_tokens_field": stated}]}
    (made,) = load_catalog([entry]).models["a/b"].deployments
    assert made.quirks.max_tokens_field == field
    assert made.cap_field_assumed == (bool(field) and not stated)


@pytest.mark.parametrize("variable", ["OPENROUTER_API_KEY", "AI_GATEWAY_API_KEY", "ZAI_API_KEY"])
def test_every_built_in_deployment_states_what_caps_an_answer_and_what_costs_extra(
    variable: str,
) -> None:
    for model in load_catalog(environ={variable: "s"}):
        for deployment in model.deployments:
            assert deployment.quirks.max_tokens_field
            assert deployment.quirks.owner_only_tools == ("*",)
            if "openrouter" in deployment.base_url:
                assert deployment.quirks.cost_is_authoritative


def test_the_quirks_and_clocks_of_an_entry_reach_its_deployment_and_model() -> None:
    deployment = {
        "provider": "openai",
        "base_url": "http://127.0.0.1:1/v1",
        "upstream_model": "m",
        "headers": {"api-key": "$KEY"},
        "add_fields": {"think": False, "options": {"num_ctx": 8192}},
        "drop_fields": ["store"],
        "stream_options": False,
    }
    entry = {"id": "a/b", "deployments": [deployment], "gap_timeout_s": 900}
    model = load_catalog([entry]).find("a/b")
    quirks = model.deployments[0].quirks
    assert quirks.headers == {"api-key": "$KEY"}
    assert quirks.add_fields == {"think": False, "options": {"num_ctx": 8192}}
    assert (quirks.drop_fields, quirks.stream_options) == (("store",), False)
    assert model.clocks == Clocks(gap_timeout_s=900.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens_field", "max_output_tokens"),
        ("system_role", "user"),
        ("headers", {"": "x"}),
        ("headers", {"x": 1}),
        ("drop_fields", "store"),
        ("max_event_bytes", -1),
        ("stream_options", "no"),
        ("add_fields", {"max_tokens": 100000}),
        ("add_fields", {"N": 5}),
        ("add_fields", {"stream": False}),
        ("drop_fields", ["max_completion_tokens"]),
        ("drop_fields", ["\u017ftream_options"]),
        ("drop_fields", ["user", "messages"]),
        ("owner_only_tools", ["web*search"]),
        ("owner_only_tools", ["**"]),
    ],
)
def test_an_invalid_quirk_is_an_error_with_its_place(field: str, value: object) -> None:
    deployment = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "upstream_model": "m"}
    entry = {"id": "a/b", "deployments": [deployment | {field: value}]}
    with pytest.raises(CatalogError, match=field):
        load_catalog([entry])


def test_a_member_of_the_gateway_is_refused_with_the_field_that_changes_it() -> None:
    deployment = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "upstream_model": "m"}
    entry = {"id": "a/b", "deployments": [deployment | {"drop_fields": ["max_tokens"]}]}
    with pytest.raises(CatalogError, match=r"'max_tokens'; use `max_tokens_field`"):
        load_catalog([entry])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_tokens_field", "max_output_tokens", 'must be one of "", "max_tokens", "max_comp'),
        ("provider", "azure", 'must be one of "openai", "anthropic", "google"'),
        ("headers", {"bad header": "x"}, "'bad header' is not the name of a header"),
        ("headers", {"x": 1}, r"must be a string - at `\$.models\[0\].deployments\[0\].headers\["),
        ("base_url", None, "must be a string"),
        ("ca_file", "/dev/null", "cannot be used: no certificates in PEM"),
    ],
)
def test_the_error_of_a_deployment_says_what_is_allowed(
    field: str, value: object, said: str
) -> None:
    deployment = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "upstream_model": "m"}
    entry = {"id": "a/b", "deployments": [deployment | {field: value}]}
    with pytest.raises(CatalogError, match=said):
        load_catalog([entry])


def test_the_error_of_a_model_is_in_words() -> None:
    deployment = {"provider": "openai", "upstream_model": "m"}
    with pytest.raises(CatalogError, match=r"missing required field `base_url` - at .*deployments"):
        load_catalog([{"id": "a/b", "deployments": [deployment]}])
    with pytest.raises(CatalogError, match=r"must be a number, more than 0 - at .*gap_timeout_s"):
        load_catalog([{"id": "a/b", "gap_timeout_s": 0}])
    with pytest.raises(CatalogError, match=r'one of "text", "image".*input_modalities\[1\]'):
        load_catalog([{"id": "a/b", "input_modalities": ["text", "smell"]}])
