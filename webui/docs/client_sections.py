"""The sections of the documentation for client developers, in the order they are needed.

Figures come from the configuration of this server.
"""

from __future__ import annotations

from server.accounting.admission import MAX_FILE_BYTES
from server.config.loading import Config
from webui.docs import chat_examples as chat
from webui.docs import examples as basic
from webui.docs.parts import Section, Table
from webui.docs.recipes import RECIPES
from workers.run.clock import REARM_FACTOR, WHOLE_FACTOR
from workers.units import MIB

STREAMING = Section(
    "streaming",
    "Streaming",
    """
    With `"stream": true` the answer arrives as server-sent events while the model writes it.
    Each event is a line `data: {...}` with one chunk, followed by a blank line. New text is in
    `choices[0].delta.content`. The last event is `data: [DONE]`.

    - `"stream_options": {"include_usage": true}` adds a chunk before the end, if the upstream
    reports its usage (some local servers do not). Its `choices` is empty and its `usage` contains
    the token counts. Read it if it comes, and do not wait for it.
    - Lines that begin with `:` are comments, such as the heartbeat `: hb` that keeps the
    connection open. Event stream parsers skip them.
    - **A stream that ends without `[DONE]` is incomplete.** If an answer fails midway, the last
    event is `data: {"error": {...}}` instead of `[DONE]`. A failure has an HTTP status only if
    nothing was sent before it.
    - Close the connection to stop. The upstream request is cancelled immediately, and only the
    output so far is counted.
    """,
    (basic.STREAM,),
)

AUTHENTICATION = Section(
    "authentication",
    "Authentication",
    """
    Send the key as `Authorization: Bearer KEY` or as `x-api-key: KEY`. If a request has both, only
    `Authorization` is checked; `Authorization: Basic` (a proxy's password) is ignored. A wrong,
    expired, disabled or revoked key is answered with 401 `invalid_api_key`, always with the same
    message.

    - **A key** can create completions, within its own limits and models, and can read
    [what remains of them](#limits).
    - **The owner key** has no limits. It can also manage keys, read the usage and see running
    requests. Sections that need it are marked **owner key**.
    - **Guests** are browsers that have opened a page of this server. They need no key and have
    [their own limits](#guests).

    Every route is available under `/api/v1`, `/api` and `/v1`. Keep keys on servers: pages of
    other sites cannot call the API from a browser, unless the owner has allowed their origin
    (`server.allowed_origins`). Call it from the site's server, or put both behind one proxy.
    """,
    (basic.OWN_KEY,),
)

MODELS = Section(
    "models",
    "Models",
    """
    `GET /api/v1/models` lists the models you may use and that can be used now; with `?all=true` the
    owner also gets those without a configured upstream (`"available": false`). It extends OpenAI's
    format with the context window (also as `context_length` and `max_model_len`), the maximum
    answer length, the inputs a model accepts, and prices in dollars per million tokens.
    `"demo": true` means that a script answers instead of the model.
    """,
    (basic.MODELS,),
    models=True,
)

CLIENTS = Section(
    "clients",
    "Use it with your program",
    """
    Most programs that work with OpenAI have a field for the base URL. Open yours for the exact
    settings; the values are those of this server and of the model chosen above. `$ROXY_API_KEY` is
    your key.

    If a program is not in the list: enter the base URL, your key and a model id. Where it asks for
    the address of a host and adds `/v1` itself, leave `/api/v1` away: this server also answers
    under `/v1`. Where it offers the Responses API, choose chat completions.
    """,
    wide=RECIPES,
)

STRUCTURED = Section(
    "structured",
    "Structured output",
    """
    `response_format` asks for JSON: with `{"type": "json_schema", ...}` the answer follows a
    schema, with `{"type": "json_object"}` it is some JSON object. The field is passed to the
    upstream unchanged, so what a schema may contain depends on the model. An upstream that does not
    support it refuses the request with 400, or ignores it: parse the answer as if it could be
    wrong.

    An answer that ended with the `finish_reason` `length` is incomplete JSON: raise `max_tokens`.
    A refusal of the model is in `message.refusal`, and `content` is `null`.
    """,
    (chat.STRUCTURED,),
)

TOOLS = Section(
    "tools",
    "Tools",
    """
    Describe functions in `tools`. To call them, the model ends its answer with the `finish_reason`
    `"tool_calls"` and lists the calls in `message.tool_calls`, with the arguments as JSON text.
    Run the functions, append the model's message and one `tool` message per call, and send the
    conversation again.

    In a stream, each call arrives in pieces. Join the pieces that have the same `index`.
    """,
    (chat.TOOLS,),
)

LIMITS = Section(
    "limits",
    "Limits",
    """
    A key may have limits on requests per minute, tokens per minute and concurrent requests, and a
    budget. Every answer to a key carries the current values. The owner key has no limits, so
    its answers do not have these headers:

    - `x-ratelimit-limit-requests`, `x-ratelimit-remaining-requests` and
    `x-ratelimit-reset-requests`; the last is a duration: `1s`, `6m0s`
    - the same with `-tokens`, if the key has a token limit
    - with 429: `Retry-After` in seconds and `Retry-After-Ms` in milliseconds. If the wait is more
    than a minute, `X-Should-Retry: false` stops the official clients from retrying too
    early.

    When a request is accepted, its prompt and the longest answer are reserved: `n` times your
    `max_tokens`, or else the model's maximum, or else half of what the limit still allows. The
    upstream gets the same number as its cap, so an answer without `max_tokens` may end with the
    `finish_reason` `length` when the limit is low. When the request ends, the reserve is
    replaced by the actual usage. A request that failed before any of its answer was sent gets its
    tokens and money back; it stays counted as a request once it reached an upstream. A prompt on
    which an upstream worked until a time limit is charged.

    A budget reserves the highest possible cost, so a lower `max_tokens` leaves more for other
    requests. While running requests reserve the rest of the budget, 429 asks you to retry after one
    second. A 429 with the code `insufficient_quota` means that the budget is used up or smaller
    than the request may cost: do not retry. What an upstream does not report is estimated, for a
    budget at one token a byte.

    `GET /api/v1/key` returns all of these values at any time.
    """,
    (basic.LIMITS,),
)


def first_steps(base_url: str) -> list[Section]:
    """Return the sections that lead to a first answer."""
    return [
        Section(
            "quickstart",
            "Quickstart",
            f"""
            The API is compatible with OpenAI's. To use a program that works with OpenAI, change its
            base URL and its key.

            - **Base URL:** `{base_url}/api/v1`
            - **Key:** begins with `roxy_`. The owner of this server creates keys under
            [Keys](/keys). All examples read it from the environment: run the first line, paste the
            key and press Enter. The key stays out of the shell's history.
            - **Model:** choose one above, or see [Models](#models). Your choice applies to every
            example on this page.

            Then copy an example and run it unchanged. Python uses the `openai` package with
            `base_url`; the JavaScript package of the same name calls it `baseURL`. The JavaScript
            examples need Node 18 or later and no package.

            **No key yet?** Press Run [below](#streaming): it uses this browser's session.
            """,
            (basic.KEY, basic.FIRST),
        ),
        CLIENTS,
        STREAMING,
        AUTHENTICATION,
        MODELS,
    ]


def completions(fields: Table, config: Config) -> list[Section]:
    """Return the sections about chat completions, the queue and kept answers."""
    return [
        Section(
            "chat",
            "Chat completions",
            """
            `POST /api/v1/chat/completions` accepts OpenAI's request. The fields below are validated
            before anything is counted; an error names the field in `param`. Other fields are passed
            to the upstream unchanged. `null` is the same as leaving the field out.
            """,
            wide=(fields,),
        ),
        TOOLS,
        STRUCTURED,
        Section(
            "images",
            "Images",
            f"""
            A message's `content` may be a list of parts. An image is an `image_url` part with a
            data URL or an https URL. The model must accept images.

            The maximum size of a request is {config.server.max_body_bytes // MIB} MiB; a larger one
            is answered with 413. Base64 makes a file a third larger. In the web chat, each file may
            have up to {MAX_FILE_BYTES // MIB} MB.
            """,
            (chat.IMAGE,),
        ),
        _documents(),
        _queue(config),
        _kept(config),
    ]


def _documents() -> Section:
    return Section(
        "documents",
        "Documents",
        f"""
        `POST /api/v1/documents` returns the text of a file, which you can then send in a message.
        The body of the request is the file as it is, at most {MAX_FILE_BYTES // MIB} MiB; curl
        sends it with `--data-binary @report.pdf`.

        It reads PDF, DOCX, XLSX, PPTX, ODT, ODS, ODP, RTF, EPUB and text files in UTF-8, UTF-16 and
        the common older encodings. `text` has marks such as `[Page 2]` where pages, sheets or
        slides begin; `truncated` is true if only the beginning was read. A scanned PDF has no text:
        error `document_without_text`. The web chat reads attached documents in the same way.
        Nothing of a file is stored.
        """,
    )


def _queue(config: Config) -> Section:
    queue, stream = config.queue, config.stream
    return Section(
        "queue",
        "Waiting in the queue",
        f"""
        When a model is busy, requests wait in a fair queue: at most {queue.max_waiting:,} per
        model, and at most {queue.max_wait_s:g} seconds. A request that cannot be served in time is
        refused immediately, with 503 and an estimated `Retry-After`.

        A request also waits while every upstream of its model is full, or asks for a pause that is
        shorter than the rest of its maximum wait. If the pause is longer, it is refused immediately
        with that pause as `Retry-After`: 429 after a rate limit, else 503.

        - `X-Roxy-Max-Wait: 30` sets a shorter maximum wait, in seconds; 0: do not wait.
        - `X-Roxy-Queue-Updates: true` adds progress comments to a stream:
        `: queued position=3 waiting=12 expected_wait_s=4.0`, `: connecting`, `: retrying`.
        - `X-Request-Id: my-own-id-1` sets the request's id: 8 to 64 characters of
        `A-Za-z0-9._:-`. Every answer carries the id that was used; quote it when you report a
        problem.
        - `GET /api/v1/jobs/{{id}}` with that id returns the state while the request waits or
        runs. `DELETE /api/v1/jobs/{{id}}` stops it.

        A stream sends something at least every {stream.heartbeat_s:g} seconds. After the upstream
        was called, it may be silent for {stream.first_content_timeout_s:g} seconds before the first
        content; each byte from it starts that time again, up to
        {stream.first_content_timeout_s * REARM_FACTOR:g} seconds in all. Later pauses must not
        exceed {stream.gap_timeout_s:g} seconds, or {stream.tools_gap_timeout_s:g} seconds if the
        request offers tools. An answer that is not streamed may take
        {stream.first_content_timeout_s * WHOLE_FACTOR:g} seconds, longer while bytes come.
        Otherwise the answer ends with one of the 504 [errors](#errors). The owner can set these
        times for each model.
        """,
        (chat.QUEUE,),
    )


def _kept(config: Config) -> Section:
    answers = config.answers
    return Section(
        "kept",
        "Resuming an answer",
        f"""
        `X-Roxy-Keep: true` keeps a streamed answer on the server. It continues if the client
        disconnects, and can be read again until {answers.keep_s:g} seconds after its end.

        - Count the `data:` events as you read them, from 1. `[DONE]` and an error count too;
        comments do not.
        - Resume with `GET /api/v1/jobs/{{id}}/stream?after=N`, where `id` is the `X-Request-Id` of
        the answer. It sends the events after number N, then new ones as they arrive. Several
        readers can follow one answer.
        - `DELETE /api/v1/jobs/{{id}}` stops it. A guest's answer also stops after
        {answers.guest_grace_s:g} seconds without a reader.
        - The first events of a very long answer may be gone: 410 `answer_gone`.
        """,
        (chat.KEPT,),
    )


def limits_and_errors(config: Config, errors: Table) -> list[Section]:
    """Return the sections about limits, guests and errors."""
    guests = config.guests
    welcome = f"""
            Browsers that have opened a page of this server can create completions without a key,
            from this server's own pages only. Limits for each address:

            - {guests.requests_per_minute:,} requests per minute and {guests.requests_per_day:,} per
            day, {guests.concurrent_requests:,} at the same time
            - answers of up to {guests.max_output_tokens:,} tokens
            - all guests together: {guests.total_requests_per_minute:,} requests per minute,
            {guests.total_requests_per_day:,} per day
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
            else "Guest access is turned off on this server. Every request needs a key.",
        ),
        Section(
            "errors",
            "Errors",
            """
            Every error has OpenAI's shape, also inside a stream, and all four members are always
            present: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`. Check
            the status and the `code`; messages are for people and may change.

            - If an answer has `Retry-After`, retry after that time. The official clients do this
            automatically.
            - Before answering 502 or 504, the gateway tries the model's other upstreams, if there
            are any and nothing was sent yet.
            - If an upstream rejects the request itself (400, 413 or 422), the answer is 400 with
            the upstream's message, code and `param`.
            - To report a problem, send the owner the `X-Request-Id` of the answer: it identifies
            the request in the log.
            """,
            (basic.ERRORS,),
            wide=(errors,),
        ),
    ]
