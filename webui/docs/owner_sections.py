"""The words of the documentation for the owner, and the reference at its end."""

from __future__ import annotations

from collections.abc import Sequence

from webui.docs import owner_examples as owner
from webui.docs.examples import OPENAPI
from webui.docs.parts import Route, Section, Table


def for_the_owner(settings: Sequence[Table]) -> list[Section]:
    """Tell of keys, usage and settings."""
    return [
        Section(
            "keys",
            "Keys",
            """
            With the owner key, `POST /api/v1/keys` makes a key for somebody else. Only `name` is
            required. **The secret is in this one answer**, as `key`, and nowhere else.

            - `limits`: `requests_per_minute`, `tokens_per_minute`, `concurrent_requests`, and
            `budget_microusd` (millionths of a dollar) for each `budget_period`: day, week, month or
            total. null: no limit.
            - `models`: the only models it may use. null: all.
            - `expires_at`: Unix seconds. `weight`: its share of turns in the queue, 1 to 100.

            `PATCH` changes what it names; `{"status": "disabled"}` is reversible and ends running
            requests. `rotate` gives a new secret and lets the old one work for `grace_s` more
            seconds; when it ends, so do the requests that run with it. `DELETE` revokes for good;
            the key stays in the list.
            """,
            (owner.KEYS, owner.KEY_LIFE),
            owner=True,
        ),
        Section(
            "usage",
            "Usage, requests, and what runs now",
            """
            Every request is counted once, whatever its ending, with tokens as the upstream counted
            them.

            - `GET /api/v1/usage` sums by `group_by` any of day, key and model; the last 30 days
            unless `start` and `end` (UTC days) say otherwise. `format=csv` gives a table for a
            spreadsheet.
            - `GET /api/v1/requests` is the log, newest first; `before` of one page leads to the
            next.
            - `GET /api/v1/live` shows what waits and runs at this moment, by model.

            Money is in micro-dollars. `cost_microusd` null: the model has no known price.
            """,
            (owner.USAGE, owner.WATCH),
            owner=True,
        ),
        Section(
            "settings",
            "Settings",
            """
            Built-in defaults, then `roxy.toml`, then the environment, then options of the command
            line; the later one wins. Unknown names and wrong types stop the start with a line that
            names them; only what Kubernetes sets for a Service named `roxy` is ignored. Durations
            are in seconds, sizes in bytes. The values below are the defaults.
            """,
            wide=settings,
        ),
    ]


def reference(routes: Sequence[Route]) -> list[Section]:
    """Tell every route, and where machines find the same."""
    return [
        Section(
            "routes",
            "Every route",
            """
            Open one for its parameters, the fields of its body and its answer, and its errors.
            """,
            wide=routes,
        ),
        Section(
            "openapi",
            "OpenAPI document",
            """
            [/api/v1/openapi.json](/api/v1/openapi.json) describes all of this for machines, in
            OpenAPI 3.1: generate a client from it, or load it into a tool. It needs no key. This
            page is also there [as Markdown](/docs.md), for reading elsewhere or giving to a model.
            """,
            (OPENAPI,),
        ),
        Section(
            "notes",
            "Good to know",
            """
            - **Browsers and HTTP/1.1.** A browser opens at most six connections to one address over
            HTTP/1.1, so with six answers streaming a seventh request waits, in other tabs too. A
            reverse proxy that speaks HTTP/2 in front of the gateway lifts that.
            - **Proxies.** A proxy must not gather streams before passing them on. nginx is told so
            by a header of the answer; others may need a setting. Its read timeout must be longer
            than the heartbeat.
            - **Timeouts of clients.** Some give up after seconds without data: `httpx` after 5.
            Heartbeats come in streams only; whole answers are silent until they are complete, so
            stream long ones.
            - **Health.** `/healthz` answers 200 while the process lives, `/readyz` while it should
            be sent work.
            """,
        ),
    ]
