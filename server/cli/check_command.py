"""`roxy check`: which models can be served, by what, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from server.config.loading import Config
from workers.catalog.catalog import Catalog, Deployment
from workers.catalog.catalog_file import load_catalog
from workers.errors import GatewayError
from workers.providers.formats import TRANSLATORS
from workers.transport.transport import Transport

REACH_S = 5.0


class Reached(NamedTuple):
    """What asking an upstream has shown; `text` is for people."""

    works: bool
    text: str


NOT_ASKED = Reached(works=True, text="ready")


async def check(config: Config, environ: Mapping[str, str], *, reach: bool) -> int:
    """Print the models and deployments; gives 1 when nothing can be served, else 0.

    With `reach` every live upstream is asked for its model list, to see that its host answers and
    takes the secret. That costs nothing: no tokens are made.
    """
    catalog = load_catalog(config.models, environ, formats=TRANSLATORS)
    print(f"configuration: {config.path or 'built-in defaults'}")
    print(f"data directory: {config.server.data_dir}\n")
    live = [one for model in catalog for one in model.live_deployments()]
    found = await _reach_all(live, config) if reach else {}
    for model in catalog:
        print(model.id)
        for deployment in model.deployments:
            state = _state(deployment, found.get(_upstream(deployment), NOT_ASKED))
            print(f"    {deployment.id:<44} {state}")
    works = {one.id for one in live if found.get(_upstream(one), NOT_ASKED).works}
    print("\n" + _summary(catalog, works))
    if config.demo:
        print("The demo is on: its script answers for every model that has nothing else.")
    return 0 if works or config.demo else 1


def _state(deployment: Deployment, reached: Reached) -> str:
    if not deployment.supported:
        return f"not available: this version has no translator for {deployment.provider}"
    if not deployment.live:
        return f"off: set {deployment.secret_env}"
    return reached.text


def _summary(catalog: Catalog, works: set[str]) -> str:
    served = [model for model in catalog if any(one.id in works for one in model.deployments)]
    if served:
        return f"{len(served)} of {len(catalog)} models can be served."
    if any(model.live_deployments() for model in catalog):
        return "No model can be served: none of the upstreams above works."
    names = sorted({name for model in catalog for name in model.missing_secrets()})
    wanted = f"Set one of {', '.join(names)}, add" if names else "Add"
    return f"No model can be served. {wanted} a deployment to roxy.toml, or start with --demo."


def _upstream(deployment: Deployment) -> tuple[str, str]:
    return deployment.base_url.rstrip("/"), deployment.secret


async def _reach_all(
    deployments: list[Deployment], config: Config
) -> dict[tuple[str, str], Reached]:
    """Ask each distinct upstream once."""
    upstreams = {_upstream(one): one for one in deployments}
    transport = Transport(connect_timeout_s=min(REACH_S, config.stream.connect_timeout_s))
    try:
        answers = await asyncio.gather(*(_reach(transport, one) for one in upstreams.values()))
    finally:
        await transport.aclose()
    return dict(zip(upstreams, answers, strict=True))


async def _reach(transport: Transport, deployment: Deployment) -> Reached:
    url = deployment.base_url.rstrip("/") + "/models"
    headers = (("Authorization", f"Bearer {deployment.secret}"),) if deployment.secret else ()
    exchange = transport.exchange(url, transport.request_head("GET", url, headers), b"")
    try:
        async with asyncio.timeout(REACH_S):
            status = (await exchange.head()).status
    except TimeoutError:
        return Reached(works=False, text="not reachable: no answer")
    except GatewayError as error:
        return Reached(works=False, text=f"not reachable: {error.reason}")
    finally:
        exchange.abort(GatewayError())
    if status in (401, 403):
        return Reached(works=False, text=f"the upstream refuses {deployment.secret_env or 'us'}")
    if status >= 500:
        return Reached(works=False, text=f"failing: the upstream answers {status}")
    return Reached(works=True, text="ready (reachable)")
