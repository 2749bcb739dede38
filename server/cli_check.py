"""`roxy check`: which models can be served, by what, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from server.config import Config
from workers.catalog import Catalog, Deployment
from workers.catalog_file import load_catalog
from workers.errors import GatewayError
from workers.transport import Transport

REACH_S = 5.0


async def check(config: Config, environ: Mapping[str, str], *, reach: bool) -> int:
    """Print the models and deployments; gives 1 when nothing can be served, else 0.

    With `reach` every live deployment is asked for its model list, to see that its host answers and
    takes the secret. That costs nothing: no tokens are made.
    """
    catalog = load_catalog(config.models, environ)
    print(f"configuration: {config.path or 'built-in defaults'}")
    print(f"data directory: {config.server.data_dir}\n")
    live = [one for model in catalog for one in model.live_deployments()]
    found = await _reach_all(live, config) if reach else {}
    for model in catalog:
        print(model.id)
        for deployment in model.deployments:
            print(f"    {deployment.id:<44} {_state(deployment, found.get(deployment.id, ''))}")
    print("\n" + _summary(catalog))
    return 0 if live else 1


def _state(deployment: Deployment, reached: str) -> str:
    if not deployment.supported:
        return f"not available: this version has no translator for {deployment.provider}"
    if not deployment.live:
        return f"off: set {deployment.secret_env}"
    return f"ready{f' ({reached})' if reached else ''}"


def _summary(catalog: Catalog) -> str:
    served = [model for model in catalog if model.live_deployments()]
    if served:
        return f"{len(served)} of {len(catalog)} models can be served."
    names = sorted({name for model in catalog for name in catalog.missing_secrets(model)})
    return (
        f"No model can be served. Set one of {', '.join(names)}, add a deployment to roxy.toml,"
        " or start with --demo."
    )


async def _reach_all(deployments: list[Deployment], config: Config) -> dict[str, str]:
    """Ask each distinct upstream once."""
    transport = Transport(connect_timeout_s=min(REACH_S, config.stream.connect_timeout_s))
    try:
        answers = await asyncio.gather(*(_reach(transport, one) for one in deployments))
    finally:
        await transport.aclose()
    return {one.id: answer for one, answer in zip(deployments, answers, strict=True)}


async def _reach(transport: Transport, deployment: Deployment) -> str:
    url = deployment.base_url.rstrip("/") + "/models"
    headers = (("Authorization", f"Bearer {deployment.secret}"),) if deployment.secret else ()
    exchange = transport.exchange(url, transport.request_head("GET", url, headers), b"")
    try:
        async with asyncio.timeout(REACH_S):
            status = (await exchange.head()).status
    except TimeoutError:
        return "no answer"
    except GatewayError as error:
        return error.message
    finally:
        exchange.abort(GatewayError())
    if status in (401, 403):
        return f"the upstream refuses {deployment.secret_env}"
    return "reachable" if status < 500 else f"the upstream answers {status}"
