"""What the handlers are given: one object with everything the composition root has built."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from server.accounting.admission import Admission
from server.accounting.body_room import BodyRoom
from server.accounting.counters import Counters
from server.accounting.ledger import Ledger
from server.accounting.model_health import ModelHealth
from server.answers.kept_answers import KeptAnswers
from server.config.loading import Config
from server.identity.attempts import Attempts
from server.identity.authentication import Authentication, GuestSessions
from server.identity.client_addresses import TrustedProxies
from server.identity.sessions import Sessions
from server.keys.key_ring import KeyRing
from server.log import AccessLog
from server.store.store import Store
from workers.catalog.catalog import Catalog
from workers.run.pool import Engine


class Services(msgspec.Struct, frozen=True):
    """The parts of a running gateway; `unready` tells why it cannot take work (empty: it can).

    `openapi` gives the description of the API, made when it is first asked for.
    """

    config: Config
    catalog: Catalog
    keys: KeyRing
    store: Store
    counters: Counters
    admission: Admission
    ledger: Ledger
    health: ModelHealth
    engine: Engine
    answers: KeptAnswers
    authentication: Authentication
    guests: GuestSessions
    sessions: Sessions
    attempts: Attempts
    """At signing in."""
    wrong_keys: Attempts
    """In calls of the API."""
    proxies: TrustedProxies
    bodies: BodyRoom
    access_log: AccessLog
    unready: Callable[[], list[str]]
    openapi: Callable[[], bytes]
