"""`roxy check`: show which models can be served, by which deployments, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from server.accounting.redis_counters.open_redis import describe_redis
from server.config.loading import Config
from server.store.postgres.postgres_opening import describe_postgres
from server.store.store import StoreFailure
from workers.base_url import joined_url
from workers.catalog.catalog import Catalog, Deployment
from workers.catalog.catalog_file import load_catalog
from workers.catalog.deployment_access import ENVIRONMENT
from workers.catalog.quirks import NO_QUIRKS, Quirks
from workers.errors import GatewayError
from workers.providers.formats import PROBES, TRANSLATORS, address_hint
from workers.providers.probe import Probe, ProbeResult
from workers.transport.transport import Transport, UpstreamExchange
from workers.units import KIB, MIB
from workers.upstream_route import UpstreamRoute

REACH_S = 5.0
"""How long an upstream may take to answer its probe."""
REJECTION_BYTES = 64 * KIB
"""How much of a rejection is read."""
LIST_BYTES = 8 * MIB
"""How much of a list of models is read: OpenRouter's has half a megabyte."""
NOT_FOUND = (404, 405)
"""What an upstream answers where its base URL is wrong."""
HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "name the authority of its certificate in ca_file",
    "proxy answered 407": "write the user and password into the URL of the proxy",
}
"""What to do about a reason for which an upstream is not reachable."""


Upstream: TypeAlias = tuple[str, str, str, tuple[tuple[str, str], ...], UpstreamRoute]


class Reached(NamedTuple):
    """What the probe of an upstream has shown; `text` is printed.

    `names` are the models that it lists, if it lists any.
    """

    works: bool
    text: str
    names: frozenset[str] = frozenset()

    def serves(self, deployment: Deployment) -> bool:
        """Return False if the upstream does not work, or is known not to have the model."""
        return self.works and self.has(deployment.upstream_model)

    def has(self, model: str) -> bool:
        """Return whether the list names a model, or there is no list."""
        return not self.names or _lists(self.names, model)


NOT_PROBED = Reached(works=True, text="ready")


async def check(
    config: Config, environ: Mapping[str, str], *, reach: bool, wide: bool = False
) -> int:
    """Print what can be served, then the models and deployments; return 1 for nothing, else 0.

    With `reach` every upstream with a live deployment is probed: whether it answers, accepts the
    secret and lists the model. That costs nothing, because no tokens are generated. With `wide` the
    fields of the deployments are printed that differ from their defaults.
    """
    catalog = load_catalog(config.models, environ, formats=TRANSLATORS)
    live = [one for model in catalog for one in model.live_deployments()]
    found = await _reach_all(live, config) if reach else {}
    works = {one.id for one in live if found.get(_upstream(one), NOT_PROBED).serves(one)}
    print(_summary(catalog, works, reach=reach))
    if config.demo:
        print("The demo is on: its script answers for every model that has no deployment.")
    print()
    print(f"configuration: {config.path or 'built-in defaults'}")
    print(f"data directory: {config.server.data_dir}")
    has_database = await _print_store(
        "database", config.database_url, "that of ROXY_DATABASE_URL", reach and describe_postgres
    )
    has_redis = await _print_store(
        "limits", config.redis_url, "Redis of ROXY_REDIS_URL", reach and describe_redis
    )
    print()
    for model in sorted(catalog, key=lambda one: not one.live_deployments()):
        print(model.id)
        for deployment in model.deployments:
            state = _state(deployment, found.get(_upstream(deployment), NOT_PROBED))
            print(f"    {deployment.id:<44} {state}")
            for line in _differences(deployment) if wide else ():
                print(f"        {line}")
    return 0 if (works or config.demo) and has_database and has_redis else 1


async def _print_store(
    label: str,
    url: str,
    unreached: str,
    describe: Callable[[str], Awaitable[str]] | Literal[False],
) -> bool:
    """Print a shared store, if one is configured; return False when it cannot be used."""
    if not url:
        return True
    if not describe:
        print(f"{label}: {unreached}")
        return True
    try:
        print(f"{label}: {await describe(url)}")
    except StoreFailure as error:
        print(f"{label}: {error}")
        return False
    return True


def _state(deployment: Deployment, reached: Reached) -> str:
    if not deployment.supported:
        return f"not available: this version has no translator for {deployment.provider}"
    if not deployment.has_secret:
        return f"off: set {' and '.join(deployment.missing_variables)}"
    if not reached.has(deployment.upstream_model):
        return f"answers, but its list of models does not name {deployment.upstream_model}"
    return reached.text


def _lists(names: Collection[str], model: str) -> bool:
    """Return whether a list names a model; both may have a folder (Google) or a tag (Ollama)."""

    def plain(name: str) -> str:
        return name.rpartition("/")[2].partition(":")[0].casefold()

    return plain(model) in map(plain, names)


def _differences(deployment: Deployment) -> list[str]:
    """Describe the quirks that differ from the default; values that may be secret are left out."""
    lines = []
    for name in Quirks.__struct_fields__:
        value = getattr(deployment.quirks, name)
        if value == getattr(NO_QUIRKS, name):
            continue
        if name == "proxy":
            value = _without_credentials(value)
        elif isinstance(value, dict | tuple):  # of headers and added members only the names
            value = ", ".join(value)
        elif isinstance(value, bool):
            value = str(value).lower()  # as in TOML
        lines.append(f"{name}: {value}")
    if deployment.quirks.proxy == ENVIRONMENT:
        lines.append(f"proxy here: {_without_credentials(deployment.route.proxy) or 'none'}")
    if deployment.quirks.ca_file == ENVIRONMENT:
        lines.append(f"ca_file here: {deployment.route.ca_file or 'the usual authorities'}")
    query = parse_qsl(urlsplit(deployment.base_url).query, keep_blank_values=True)
    if query:
        lines.append(f"query: {', '.join(name for name, _ in query)}")
    return lines


def _without_credentials(proxy: str) -> str:
    scheme, mark, rest = proxy.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _summary(catalog: Catalog, works: set[str], *, reach: bool) -> str:
    """Return how many models can be served, and how many are configured: `serve` names those."""
    served = [model for model in catalog if any(one.id in works for one in model.deployments)]
    configured = sum(bool(model.live_deployments()) for model in catalog)
    if served:
        part = f"{len(served)} of {len(catalog)} models"
        if not reach:
            return f"{part} are configured."
        more = f"; {configured} are configured" if configured > len(served) else ""
        return f"{part} can be served{more}."
    if configured:
        return "No model can be served: none of the upstreams below works."
    names = sorted({name for model in catalog for name in model.missing_secrets()})
    wanted = f"Set one of {', '.join(names)}, add" if names else "Add"
    return f"No model can be served. {wanted} a deployment to roxy.toml, or start with --demo."


def _upstream(deployment: Deployment) -> Upstream:
    """Return what makes an upstream distinct: the same probe would get the same answer."""
    return (
        deployment.provider,
        deployment.base_url,
        deployment.secret,
        deployment.headers,
        deployment.route,
    )


async def _reach_all(deployments: list[Deployment], config: Config) -> dict[Upstream, Reached]:
    """Probe each distinct upstream once."""
    upstreams = {_upstream(one): one for one in deployments}
    transport = Transport(connect_timeout_s=min(REACH_S, config.stream.connect_timeout_s))
    try:
        answers = await asyncio.gather(*(_reach(transport, one) for one in upstreams.values()))
    finally:
        await transport.aclose()
    return dict(zip(upstreams, answers, strict=True))


async def _reach(transport: Transport, deployment: Deployment) -> Reached:
    """Send the probe of the deployment's wire format to its upstream."""
    probe = PROBES[deployment.provider](deployment)
    url = joined_url(deployment.base_url, probe.path)
    head = transport.request_head(probe.method, url, probe.headers)
    exchange = transport.exchange(url, head, route=deployment.route)
    try:
        async with asyncio.timeout(REACH_S):
            status = (await exchange.head()).status
        body = await _read(exchange, REJECTION_BYTES if status >= 400 else LIST_BYTES)
    except TimeoutError:
        return Reached(works=False, text="not reachable: no answer")
    except GatewayError as error:
        hints = [f" ({hint})" for part, hint in HINTS.items() if part in error.reason]
        return Reached(works=False, text=f"not reachable: {error.reason}{''.join(hints)}")
    finally:
        exchange.abort(GatewayError())
    result = probe.read(status, body)
    if result == "works" and status in NOT_FOUND:
        return await _without_list(transport, deployment, probe, status)
    reached = _described(result, status, deployment)
    return reached._replace(names=probe.names(body)) if status < 300 else reached


async def _without_list(
    transport: Transport, deployment: Deployment, probe: Probe, status: int
) -> Reached:
    """Ask an upstream that has no list of models whether it has completions.

    Some serve completions alone. The request is an empty one, which generates nothing.
    """
    url = joined_url(deployment.base_url, probe.completions)
    headers = (*probe.headers, ("content-type", "application/json"))
    head = transport.request_head("POST", url, headers)
    exchange = transport.exchange(url, head, b"{}", deployment.route)
    try:
        async with asyncio.timeout(REACH_S):
            answered = (await exchange.head()).status
    except (TimeoutError, GatewayError):
        answered = 0
    finally:
        exchange.abort(GatewayError())
    if answered in NOT_FOUND:
        hint = address_hint(deployment.provider, deployment.base_url).rstrip(".")
        text = f"answers, but GET {probe.path} says {status}: {hint[0].lower()}{hint[1:]}"
        return Reached(works=False, text=text)
    return Reached(works=True, text="ready (reachable; it has no list of models)")


async def _read(exchange: UpstreamExchange, max_bytes: int) -> bytes:
    """Return the body, or b"" when it is cut, too slow or too large: the status is enough."""
    try:
        async with asyncio.timeout(REACH_S):
            return await exchange.read(max_bytes)
    except (TimeoutError, GatewayError):
        return b""


def _described(result: ProbeResult, status: int, deployment: Deployment) -> Reached:
    given = [deployment.secret_env] if deployment.secret_env else []
    given += [f"the header {name}" for name, _ in deployment.headers]
    if result == "secret_rejected" and given:
        return Reached(works=False, text=f"the upstream refuses {' and '.join(given)}")
    if result == "secret_rejected":
        return Reached(works=False, text="the upstream requires a secret: set secret_env")
    if result == "failing":
        return Reached(works=False, text=f"failing: the upstream answers {status}")
    return Reached(works=True, text="ready (reachable)")
