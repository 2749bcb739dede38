"""The words of the documentation: what a client developer needs, in the order it is needed.

Numbers are this server's own, from its configuration.
"""

from __future__ import annotations

from server.accounting.admission import MAX_FILE_BYTES
from server.config.loading import Config
from webui.docs import chat_examples as chat
from webui.docs import examples as basic
from webui.docs.parts import Section, Table
from workers.units import MIB

STREAMING = Section(
    "streaming",
    "Streaming",
    """
    With `"stream": true` the answer comes as server-sent events while it is written. Each
    event is a line `data: {...}` with one chunk, followed by a blank line; new text is in
    `choices[0].delta.content`. The last event is `data: [DONE]`.

    - `"stream_options": {"include_usage": true}` adds a chunk before the end whose
    `choices` is empty and whose `usage` counts the tokens.
    - Lines that begin with `:` are comments, such as the heartbeat `: hb` that keeps a
    connection open. Parsers of event streams skip them.
    - **A stream that ends without `[DONE]` was cut.** When an answer fails on its way, the
    last event is `data: {"error": {...}}` in place of `[DONE]`: what came before it is not
    the whole answer. Only as long as nothing was sent does a failure have an HTTP status.
    - Close the connection to stop: the upstream is told at once, and only what was written
    is counted.
    """,
    (basic.STREAM,),
)

AUTHENTICATION = Section(
    "authentication",
    "Authentication",
    """
    Send the key as `Authorization: Bearer KEY` or as `x-api-key: KEY`; of both, only
    `Authorization` counts, and `Basic` there, a proxy's password, is not looked at. A wrong,
    expired, disabled or revoked key is answered with 401 `invalid_api_key`, always in the
    same words.

    - **A key** asks for answers, within its own limits and models, and may read
    [what is left of them](#limits).
    - **The owner key** has no limits and may also manage keys, read the usage and see what
    runs. Sections that need it are marked **owner key**.
    - **Guests** are browsers that have opened a page of this server: they need no key and
    have [limits of their own](#guests).

    Every route is under `/api/v1`, and under `/api` too. Keep keys on servers: no CORS
    headers are sent, so pages of other sites cannot call this API from a browser. Let their
    own server call it, or put a proxy before both.
    """,
    (basic.OWN_KEY,),
)

MODELS = Section(
    "models",
    "Models",
    """
    `GET /api/v1/models` lists what you may use, in OpenAI's format with more to it: context
    window, longest answer, what a model takes, prices in dollars per million tokens, and
    whether it can be asked now (`available`). `"demo": true` means that a script answers in
    the model's place.
    """,
    (basic.MODELS,),
    models=True,
)

TOOLS = Section(
    "tools",
    "Tools",
    """
    Describe functions in `tools`. A model that wants one called ends its answer with
    `finish_reason` `"tool_calls"` and puts them into `message.tool_calls`, with arguments
    as JSON text. Call them, append the model's message and one `tool` message for each
    call, and ask again.

    In a stream the calls come in pieces, to be joined by their `index`.
    """,
    (chat.TOOLS,),
)

LIMITS = Section(
    "limits",
    "Limits",
    """
    A key may have limits on requests a minute, tokens a minute, requests at the same time,
    and a budget. Every answer to a key carries the true state; the owner key has no limits, so
    its answers carry none of these:

    - `x-ratelimit-limit-requests`, `x-ratelimit-remaining-requests` and
    `x-ratelimit-reset-requests`, the last as a duration: `1s`, `6m0s`
    - the same with `-tokens`, where the key has such a limit
    - after 429: `Retry-After` in seconds and `Retry-After-Ms`. Waits of more than a minute
    also carry `X-Should-Retry: false`, which keeps the official clients from trying too
    early.

    Tokens are set aside when a request is accepted (an estimate of the prompt, plus
    `max_tokens` where given) and settled with what was really used; a request that is refused
    or fails before any of its answer was sent takes nothing. A budget sets the
    highest possible cost aside, so a lower `max_tokens` leaves more room. While running
    requests hold the rest of it, 429 asks to come back in a second. 429 with the code
    `insufficient_quota` means that the budget is used up, or smaller than what the request
    may cost: do not retry.

    `GET /api/v1/key` tells all of this at any time.
    """,
    (basic.LIMITS,),
)


def first_steps(base_url: str) -> list[Section]:
    """Tell what is needed for a first answer."""
    return [
        Section(
            "quickstart",
            "Quickstart",
            f"""
            The API speaks OpenAI's format: a program that works with OpenAI works here once its
            base URL and its key are changed.

            - **Base URL:** `{base_url}/api/v1`
            - **Key:** begins with `roxy_`; the owner of this server makes one for you, under
            [Keys](/keys). Put it into the environment, where all examples here look for it: run the
            first line, paste the key and press Enter. It stays out of the shell's history.
            - **Model:** choose one above, or see [the models](#models). Every example on this page
            changes with it.

            Then copy an example and run it: it works as it stands. For Python use the `openai`
            package with `base_url`; its JavaScript sister takes `baseURL`. The JavaScript here
            needs no package; it is for Node 18 or later.

            **No key yet?** Press Run [below](#streaming): that asks with this browser's own
            session.
            """,
            (basic.KEY, basic.FIRST),
        ),
        STREAMING,
        AUTHENTICATION,
        MODELS,
    ]


def completions(fields: Table, config: Config) -> list[Section]:
    """Tell of chat completions, the queue and kept answers."""
    return [
        Section(
            "chat",
            "Chat completions",
            """
            `POST /api/v1/chat/completions` takes OpenAI's request. Known fields are checked before
            anything is spent, and an error names the field in `param`. Fields that are not in this
            list are handed on to the upstream as they are. `null` counts as not given.
            """,
            wide=(fields,),
        ),
        TOOLS,
        Section(
            "images",
            "Pictures",
            f"""
            A message's `content` may be a list of parts. A picture is an `image_url` part with a
            data URL or an https URL, for models that take images.

            The whole request may have {config.server.max_body_bytes // MIB} MiB, more is answered
            with 413. A file grows by a third when it is written as base64. The web chat takes files
            of {MAX_FILE_BYTES // MIB} MB each.
            """,
            (chat.IMAGE,),
        ),
        _queue(config),
        _kept(config),
    ]


def _queue(config: Config) -> Section:
    queue, stream = config.queue, config.stream
    return Section(
        "queue",
        "Waiting in the queue",
        f"""
        When a model is busy, requests wait for a fair turn: at most {queue.max_waiting:,} for
        each model, and at most {queue.max_wait_s:g} s. Who could not be served in time is
        refused at once, with 503 and an honest `Retry-After`.

        - `X-Roxy-Max-Wait: 30` lowers the longest wait, in seconds.
        - `X-Roxy-Queue-Updates: true` tells where a streamed request is, as comments:
        `: queued position=3 waiting=12 expected_wait_s=4.0`, `: connecting`, `: retrying`.
        - `X-Request-Id: my-own-id-1` names the request, in 8 to 64 of `A-Za-z0-9._:-`. Every
        answer carries the name that was used; keep it for questions.
        - `GET /api/v1/jobs/{{id}}` with that name tells the state while a request waits or
        runs, and `DELETE /api/v1/jobs/{{id}}` stops it.

        In a stream something is sent every {stream.heartbeat_s:g} s at the latest. Once a model
        is asked, its first content must come within {stream.first_content_timeout_s:g} s and
        silence in the middle must not last longer than {stream.gap_timeout_s:g} s; otherwise
        the answer ends with one of the 504 [errors](#errors).
        """,
        (chat.QUEUE,),
    )


def _kept(config: Config) -> Section:
    answers = config.answers
    return Section(
        "kept",
        "Answers that outlive the connection",
        f"""
        `X-Roxy-Keep: true` gives a streamed answer to the server: it goes on when the client is
        cut off, and can be read again until {answers.keep_s:g} s after its end.

        - Count the `data:` events as you read them, from 1; `[DONE]` and an error count too,
        comments do not.
        - Come back with `GET /api/v1/jobs/{{id}}/stream?after=N`, where `id` is the
        `X-Request-Id` of the answer: events after number N follow, then those still to come.
        Several readers may follow one answer.
        - `DELETE /api/v1/jobs/{{id}}` stops it. A guest's is also stopped when nobody has read
        it for {answers.guest_grace_s:g} s.
        - Of a very long answer the first events may be gone: 410 `answer_gone`.
        """,
        (chat.KEPT,),
    )


def bounds(config: Config, errors: Table) -> list[Section]:
    """Tell of limits, guests and errors."""
    guests = config.guests
    welcome = f"""
            Browsers that have opened a page of this server may ask without a key, by this server's
            own pages only. For each address:

            - {guests.requests_per_minute:,} requests a minute and {guests.requests_per_day:,} a
            day, {guests.concurrent_requests:,} at the same time
            - answers of {guests.max_output_tokens:,} tokens at most
            - all guests together: {guests.total_requests_per_minute:,} requests a minute,
            {guests.total_requests_per_day:,} a day
            """
    if guests.models:
        welcome += f"- models: {', '.join(f'`{model}`' for model in guests.models)}\n"
    return [
        LIMITS,
        Section(
            "guests",
            "Guests",
            welcome
            if guests.enabled
            else "Guests are not welcome on this server: every request needs a key.",
        ),
        Section(
            "errors",
            "Errors",
            """
            Every error has OpenAI's shape, inside a stream too, and all four members are always
            there: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`. Look at
            the status and the `code`; messages are for people and may change.

            - Try again after `Retry-After` where an answer has it; the official clients do so by
            themselves.
            - 502 and 504 have been tried at the model's other upstreams too, where there are any,
            unless something was sent already.
            - An upstream's own refusal of the request (400, 413 or 422) is passed on as 400, with
            its message, code and `param`.
            - Tell the owner the `X-Request-Id` of the answer: it finds the request in the log.
            """,
            (basic.ERRORS,),
            wide=(errors,),
        ),
    ]
