"""Every route of the API, in one list: the application, the reference and its test read it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from server.handlers.base import BaseHandler, NotFoundHandler
from server.handlers.chat import ChatHandler
from server.handlers.health import HealthHandler, ReadyHandler
from server.handlers.jobs import JobHandler
from server.handlers.keys import KeyHandler, KeysHandler, OwnKeyHandler, RotateHandler
from server.handlers.models import ModelHandler, ModelsHandler
from server.handlers.usage import UsageHandler


class Route(msgspec.Struct, frozen=True):
    """A path as people write it (`{id}` stands for a part of it), and the handler behind it."""

    path: str
    handler: type[BaseHandler]
    api: bool = True

    @property
    def patterns(self) -> Iterable[str]:
        """Give the regular expressions that Tornado matches: under /api and under /api/v1."""
        path = self.path.replace("{model}", "(.+)").replace("{id}", "([^/]+)")
        return (rf"/api(?:/v1)?/{path}",) if self.api else (path,)


ROUTES = (
    Route("chat/completions", ChatHandler),
    Route("models", ModelsHandler),
    Route("models/{model}", ModelHandler),
    Route("key", OwnKeyHandler),
    Route("keys", KeysHandler),
    Route("keys/{id}", KeyHandler),
    Route("keys/{id}/rotate", RotateHandler),
    Route("usage", UsageHandler),
    Route("jobs/{id}", JobHandler),
    Route("/healthz", HealthHandler, api=False),
    Route("/readyz", ReadyHandler, api=False),
)


def api_rules(services: object) -> list[tuple[str, type[BaseHandler], dict[str, object]]]:
    """Give Tornado's rules for every route, and for what is not there under /api."""
    given = {"services": services}
    rules = [(pattern, route.handler, given) for route in ROUTES for pattern in route.patterns]
    return [*rules, (r"/api(?:/.*)?", NotFoundHandler, given)]
