"""All routes of the API in one list, which the application and the documentation read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from server.api.base import BaseHandler, NotFoundHandler
from server.api.completions import ChatHandler
from server.api.files.document_handler import DocumentHandler
from server.api.health import HealthHandler, ReadyHandler, UpstreamHealthHandler
from server.api.history.history_changes import (
    HistoryChangesHandler,
    HistorySearchHandler,
    WholeHistoryHandler,
)
from server.api.history.history_conversations import ConversationHandler
from server.api.history.history_export import HistoryExportHandler
from server.api.history.history_files import HistoryFileHandler
from server.api.history.history_settings import HistorySettingsHandler
from server.api.history.history_shares import ShareHandler, SharesHandler
from server.api.jobs import JobHandler, JobStreamHandler
from server.api.keys import (
    InvitationHandler,
    InvitationsHandler,
    KeyHandler,
    KeysHandler,
    OwnKeyHandler,
    RotateHandler,
)
from server.api.live import LiveHandler
from server.api.models import ModelHandler, ModelsHandler
from server.api.openapi import OpenApiHandler
from server.api.requests import RequestHandler, RequestsHandler
from server.api.usage import UsageHandler

PREFIXES = ("/api", "/api/v1", "/v1")
"""The paths of the API: many clients append /v1 to the address of a host."""


class Route(msgspec.Struct, frozen=True):
    """A path, in which `{id}` or `{model}` stands for a variable part, and its handler."""

    path: str
    handler: type[BaseHandler]
    api: bool = True

    @property
    def patterns(self) -> Iterable[str]:
        """Return the regular expression that Tornado matches: under each of `PREFIXES`."""
        path = self.path.replace("{model}", "(.+)").replace("{id}", "([^/]+)")
        return (rf"(?:{'|'.join(PREFIXES)})/{path}",) if self.api else (path,)


ROUTES = (
    Route("chat/completions", ChatHandler),
    Route("documents", DocumentHandler),
    Route("models", ModelsHandler),
    Route("models/{model}", ModelHandler),
    Route("key", OwnKeyHandler),
    Route("keys", KeysHandler),
    Route("keys/{id}", KeyHandler),
    Route("keys/{id}/rotate", RotateHandler),
    Route("invitations", InvitationsHandler),
    Route("invitations/{id}", InvitationHandler),
    Route("usage", UsageHandler),
    Route("requests", RequestsHandler),
    Route("requests/{id}", RequestHandler),
    Route("live", LiveHandler),
    Route("health", UpstreamHealthHandler),
    Route("jobs/{id}", JobHandler),
    Route("jobs/{id}/stream", JobStreamHandler),
    Route("history", WholeHistoryHandler),
    Route("history/changes", HistoryChangesHandler),
    Route("history/conversations/{id}", ConversationHandler),
    Route("history/files/{id}", HistoryFileHandler),
    Route("history/settings", HistorySettingsHandler),
    Route("history/search", HistorySearchHandler),
    Route("history/export", HistoryExportHandler),
    Route("history/shares", SharesHandler),
    Route("history/shares/{id}", ShareHandler),
    Route("openapi.json", OpenApiHandler),
    Route("/healthz", HealthHandler, api=False),
    Route("/readyz", ReadyHandler, api=False),
)


def api_rules(services: object) -> list[tuple[str, type[BaseHandler], dict[str, object]]]:
    """Return Tornado's rules for all routes, and for unknown paths under /api and /v1."""
    given = {"services": services}
    rules = [(pattern, route.handler, given) for route in ROUTES for pattern in route.patterns]
    return [*rules, (r"/(?:api|v1)(?:/.*)?", NotFoundHandler, given)]


def shortcuts(services: object) -> dict[str, tuple[type[BaseHandler], dict[str, object]]]:
    """Return the handlers of the API's paths without variable parts, by path."""
    given = {"services": services}
    return {
        f"{prefix}/{route.path}": (route.handler, given)
        for route in ROUTES
        if route.api and "{" not in route.path
        for prefix in PREFIXES
    }
