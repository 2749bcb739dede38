"""The sections of the documentation for client developers, in the order they are needed.

Figures come from the configuration of this server.
"""

from __future__ import annotations

from server.accounting.admission import MAX_FILE_BYTES
from server.config.loading import Config
from server.config.settings import Guests
from webui.docs import chat_examples as chat
from webui.docs import examples as basic
from webui.docs.parts import Section, Table
from webui.docs.recipes import RECIPES
from webui.shell.texts import Language, fill
from workers.run.clock import REARM_FACTOR, WHOLE_FACTOR
from workers.units import MIB


def first_steps(base_url: str, locale: Language, *, may_run: bool) -> list[Section]:
    """Return the sections that lead to a first answer; `may_run`: examples have a Run button."""
    texts = locale.texts
    begin = fill(texts.docs_start.quickstart, base_url=base_url)
    if may_run:
        begin += f"\n{texts.docs_start.no_key}"
    return [
        Section(
            "quickstart",
            texts.docs_start.quickstart_title,
            begin,
            (basic.KEY, basic.FIRST),
        ),
        Section(
            "clients",
            texts.docs_start.clients_title,
            texts.docs_start.clients,
            wide=RECIPES,
        ),
        Section(
            "streaming",
            texts.docs_start.streaming_title,
            texts.docs_start.streaming,
            (basic.STREAM,),
        ),
        Section(
            "authentication",
            texts.docs_start.authentication_title,
            texts.docs_start.authentication,
            (basic.OWN_KEY,),
        ),
        Section(
            "models",
            texts.docs_start.models_title,
            texts.docs_start.models,
            (basic.MODELS,),
            models=True,
        ),
    ]


def completions(fields: Table, config: Config, locale: Language) -> list[Section]:
    """Return the sections about chat completions, the queue and kept answers."""
    texts, file_size = locale.texts, MAX_FILE_BYTES // MIB
    images = fill(
        texts.docs_chat.images,
        request_size=config.server.max_body_bytes // MIB,
        file_size=file_size,
    )
    return [
        Section("chat", texts.docs_chat.chat_title, texts.docs_chat.chat, wide=(fields,)),
        Section("tools", texts.docs_chat.tools_title, texts.docs_chat.tools, (chat.TOOLS,)),
        Section(
            "structured",
            texts.docs_chat.structured_title,
            texts.docs_chat.structured,
            (chat.STRUCTURED,),
        ),
        Section("images", texts.docs_chat.images_title, images, (chat.IMAGE,)),
        Section(
            "documents",
            texts.docs_chat.documents_title,
            fill(texts.docs_chat.documents, file_size=file_size),
        ),
        _queue(config, locale),
        _kept(config, locale),
    ]


def _seconds(s: float, locale: Language) -> str:
    return locale.figures.s.format(value=locale.figures.written(f"{s:,.10g}"))


def _queue(config: Config, locale: Language) -> Section:
    texts, queue, stream = locale.texts, config.queue, config.stream
    first = stream.first_content_timeout_s
    times = {
        "longest": queue.max_wait_s,
        "heartbeat": stream.heartbeat_s,
        "first": first,
        "total": first * REARM_FACTOR,
        "gap": stream.gap_timeout_s,
        "tools_gap": stream.tools_gap_timeout_s,
        "whole": first * WHOLE_FACTOR,
    }
    prose = fill(
        texts.docs_chat.queue,
        waiting=locale.figures.count(queue.max_waiting),
        **{name: _seconds(time, locale) for name, time in times.items()},
    )
    return Section("queue", texts.docs_chat.queue_title, prose, (chat.QUEUE,))


def _kept(config: Config, locale: Language) -> Section:
    texts, answers = locale.texts, config.answers
    prose = fill(
        texts.docs_chat.kept,
        kept=_seconds(answers.keep_s, locale),
        grace=_seconds(answers.guest_grace_s, locale),
    )
    return Section("kept", texts.docs_chat.kept_title, prose, (chat.KEPT,))


def limits_and_errors(config: Config, errors: Table, locale: Language) -> list[Section]:
    """Return the sections about limits, guests and errors."""
    texts, guests = locale.texts, config.guests
    return [
        Section(
            "limits", texts.docs_limits.limits_title, texts.docs_limits.limits, (basic.LIMITS,)
        ),
        Section(
            "guests",
            texts.docs_limits.guests_title,
            _guests(guests, locale) if guests.enabled else texts.docs_limits.no_guests,
        ),
        Section(
            "errors",
            texts.docs_limits.errors_title,
            texts.docs_limits.errors,
            (basic.ERRORS,),
            wide=(errors,),
        ),
    ]


def _guests(guests: Guests, locale: Language) -> str:
    texts, count = locale.texts, locale.figures.count
    prose = fill(
        texts.docs_limits.guests,
        per_minute=count(guests.requests_per_minute),
        per_day=count(guests.requests_per_day),
        at_once=count(guests.concurrent_requests),
        longest=count(guests.max_output_tokens),
        total_per_minute=count(guests.total_requests_per_minute),
        total_per_day=count(guests.total_requests_per_day),
    )
    if not guests.models:
        return prose
    models = ", ".join(f"`{model}`" for model in guests.models)
    return f"{prose}\n{fill(texts.docs_limits.guest_models, models=models)}"
