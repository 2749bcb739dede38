"""The sections of the documentation for the owner, and the reference at its end."""

from __future__ import annotations

from collections.abc import Sequence

from webui.docs import owner_examples as owner
from webui.docs.examples import OPENAPI
from webui.docs.parts import RouteDetails, Section, Table

SETTINGS = """
Sources, each overriding the one before: built-in defaults, `roxy.toml`, environment
variables, command-line options. An unknown name or a wrong type stops the start with a
message that names it; only the variables that Kubernetes sets for a Service named
`roxy` are ignored. Durations are in seconds, sizes in bytes. The values below are the
defaults.
"""
KEYS = """
`POST /api/v1/keys` with the owner key creates a key for another person or program. Only
`name` is required. **The secret is the field `key` of this answer** and is not shown
again.

- `limits`: `requests_per_minute`, `tokens_per_minute`, `concurrent_requests`, and
`budget_microusd` (millionths of a dollar) for each `budget_period`: day, week, month or
total. null: no limit.
- `models`: the only models it may use. null: all.
- `expires_at`: Unix seconds. `weight`: its share of the queue, from 1 to 100.
- `note`: up to 1,000 characters that only you see.

`PATCH` changes the fields it contains. `{"status": "disabled"}` ends running requests
and can be undone. `rotate` creates a new secret; the old one stays valid for `grace_s`
more seconds, then the requests that use it end. `DELETE` revokes the key permanently;
the key stays in the list.

On the page Keys you can also create many keys from a list of names, and invitations: a
link signs a person in once, within 1, 7 or 30 days, and shows them their key if you
want. Invitations can be revoked until they are used. A program makes one with
`POST /api/v1/invitations` and `{"key_id": "..."}`: `url` in the answer is the link.

`GET /api/v1/keys` returns up to 1000 keys, the oldest first. While `has_more` is true,
pass `last_id` as `after`. `search` finds keys by name, note, redacted
secret or id.
"""


def for_the_owner(settings: Sequence[Table]) -> list[Section]:
    """Return the sections about keys, usage and settings."""
    return [
        Section(
            "keys",
            "Keys",
            KEYS,
            (owner.KEYS, owner.KEY_LIFE),
            owner=True,
        ),
        Section(
            "usage",
            "Usage, requests and live view",
            """
            Every request is counted once, however it ends, with the token counts of the upstream.

            - `GET /api/v1/usage` sums by `group_by`: any of day, key and model. It covers the last
            30 days unless you set `start` and `end` (UTC days). `format=csv` returns a table for
            spreadsheets, with amounts in dollars. JSON comes in pages: while `has_more` is true,
            pass `next` as `after`.
            Sums include what was estimated; `estimated_cost_microusd` is that part of them.
            - `GET /api/v1/requests` returns the log, newest first. To get the next page, pass the
            `before` of the previous one.
            - `GET /api/v1/live` returns the waiting and running requests, by model.
            - `GET /api/v1/health` returns how each model has answered in the last hour, and the
            state of its deployments: `ready`, `cooling` (with the reason and the seconds left),
            `probing` (a few requests try it again) or `off`.

            Amounts are in micro-dollars. If `cost_microusd` is null, the model's price is unknown.
            """,
            (owner.USAGE, owner.WATCH),
            owner=True,
        ),
        Section(
            "settings",
            "Settings",
            SETTINGS,
            wide=settings,
        ),
    ]


MISSING = Table(
    "Routes of OpenAI that are not here",
    ("Route", "Instead"),
    (
        ("`/responses`", "`/chat/completions`; most programs have a switch for it"),
        ("`/completions`", "`/chat/completions` with one user message"),
        ("`/embeddings`", "another server: this one serves chat models only"),
        ("`/images`, `/videos`", "image input works in `/chat/completions`"),
        ("`/audio`, `/realtime`", "nothing"),
        ("`/files`, `/uploads`, `/vector_stores`", "send files as parts of a message"),
        ("`/batches`", "send the requests; the queue is fair to others"),
        ("`/assistants`, `/threads`, `/conversations`", "keep the messages in your program"),
        ("`/moderations`, `/fine_tuning`, `/evals`", "nothing"),
    ),
)
"""What clients of OpenAI's API may look for in vain."""
MISSING_ROUTES = Section(
    "missing",
    "Routes that are not here",
    """
    These routes of OpenAI do not exist on this server. They answer 404 `not_found`; a
    program that needs one of them cannot use this server for it.
    """,
    wide=(MISSING,),
)


def reference(routes: Sequence[RouteDetails], shapes: Sequence[Table]) -> list[Section]:
    """Return the sections with every route, the OpenAPI document, answers and notes."""
    return [
        Section(
            "routes",
            "All routes",
            """
            Open a route to see its parameters, body, answer and errors.
            """,
            wide=routes,
        ),
        MISSING_ROUTES,
        Section(
            "openapi",
            "OpenAPI document",
            """
            [/api/v1/openapi.json](/api/v1/openapi.json) is the OpenAPI 3.1 document of this API:
            generate a client from it, or load it into a tool. It needs no key. This page is also
            available [as Markdown](/docs.md), for example to give to a model.
            """,
            (OPENAPI,),
        ),
        Section(
            "answers",
            "Answers of upstreams",
            """
            An answer that is what OpenAI's schema promises passes byte for byte, except for the
            model's name. What upstreams send otherwise is mended, so that clients of OpenAI's API
            can read it: required members are added, empty ones are left out, and an answer has one
            id, one time and one role. Thinking has two names, `reasoning_content` and `reasoning`,
            with the same text, because clients read one of them. Parts of content that are neither
            text, thinking, refusals nor pictures are left out.

            The content decides, not the content type or what was requested: a stream is made of a
            whole answer and the other way round. An answer that failed before its first content is
            requested from the next deployment. `demo: shape NAME` makes the demo send one of these
            answers.
            """,
            wide=shapes,
        ),
        Section(
            "notes",
            "Notes",
            """
            - **Browsers and HTTP/1.1.** A browser opens at most six HTTP/1.1 connections to one
            address. With six answers streaming, a seventh request waits, also in other tabs. A
            reverse proxy in front of the gateway that offers HTTP/2 removes this limit.
            - **Proxies.** A proxy must pass streams on without buffering. nginx follows a header of
            the answer; other proxies may need a setting. The proxy's read timeout must be longer
            than the heartbeat.
            - **Client timeouts.** Some clients give up after a few seconds without data: `httpx`
            after 5. Only streams have heartbeats; an answer that is not streamed sends nothing
            until it is complete. Stream long answers.
            - **Health.** `/healthz` answers 200 while the process is alive, `/readyz` while the
            gateway accepts requests.
            """,
        ),
    ]
