"""The services that handlers use: one object with all parts of a running gateway."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from server.accounting.admission import Admission
from server.accounting.body_room import BodyRoom
from server.accounting.counters import Counters
from server.accounting.ledger import Ledger
from server.answers.kept_answers import KeptAnswers
from server.answers.model_health import ModelHealth
from server.answers.passing import Passing
from server.answers.peers import Peers
from server.config.loading import Config
from server.documents.reading import DocumentReader
from server.history.chat_history import ChatHistory
from server.history.stored_files import FillingTurns
from server.identity.authentication import Authentication, GuestSessions
from server.identity.client_addresses import TrustedProxies
from server.identity.invitations import Invitations
from server.identity.sessions import Sessions
from server.identity.wrong_keys import WrongKeyLimit
from server.keys.key_ring import KeyRing
from server.log import AccessLog
from server.store.data_directory import DataDirectory
from server.store.store import Store
from workers.catalog.catalog import Catalog
from workers.run.pool import Engine


class Services(msgspec.Struct, frozen=True):
    """The parts of a running gateway, built by the composition root.

    `unready` returns the reasons why the gateway cannot take work; an empty list means that it can.
    `openapi` returns the OpenAPI document, which is built at the first call.
    """

    config: Config
    directory: DataDirectory
    catalog: Catalog
    keys: KeyRing
    store: Store
    history: ChatHistory
    filling_turns: FillingTurns
    counters: Counters
    admission: Admission
    ledger: Ledger
    health: ModelHealth
    engine: Engine
    answers: KeptAnswers
    peers: Peers
    passing: Passing
    authentication: Authentication
    guests: GuestSessions
    sessions: Sessions
    invitations: Invitations
    wrong_sign_ins: WrongKeyLimit
    """Counts the wrong keys of the sign-in form."""
    wrong_keys: WrongKeyLimit
    """Counts the wrong keys of API requests."""
    proxies: TrustedProxies
    bodies: BodyRoom
    documents: DocumentReader
    access_log: AccessLog
    unready: Callable[[], list[str]]
    openapi: Callable[[], bytes]

    def away(self) -> list[str]:
        """Return which shared stores cannot be reached, in words."""
        store = self.store.trouble if self.config.database_url else None
        away = [] if store is None else [f"PostgreSQL cannot be used: {store}"]
        return away if self.counters.trouble is None else [*away, self.counters.trouble]
