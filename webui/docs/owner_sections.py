"""The sections of the documentation for the owner, and the reference at its end."""

from __future__ import annotations

from collections.abc import Sequence

from webui.docs import owner_examples as owner
from webui.docs.examples import OPENAPI
from webui.docs.parts import RouteDetails, Section, Table
from webui.shell.texts import Language


def for_the_owner(settings: Sequence[Table], locale: Language) -> list[Section]:
    """Return the sections about keys, usage and settings."""
    texts = locale.texts
    return [
        Section(
            "keys",
            texts.docs_owner.keys_title,
            texts.docs_owner.keys,
            (owner.KEYS, owner.KEY_LIFE),
            owner=True,
        ),
        Section(
            "usage",
            texts.docs_owner.usage_title,
            texts.docs_owner.usage,
            (owner.USAGE, owner.WATCH),
            owner=True,
        ),
        Section(
            "settings",
            texts.docs_owner.settings_title,
            texts.docs_owner.settings,
            wide=settings,
        ),
    ]


def missing_routes(locale: Language) -> Table:
    """Return what clients of OpenAI's API may look for in vain, and what to use instead."""
    texts = locale.texts
    nothing = texts.docs_reference.instead_nothing
    rows = (
        ("`/responses` (Responses API)", texts.docs_reference.instead_responses),
        ("`/completions`", texts.docs_reference.instead_completions),
        ("`/embeddings`", texts.docs_reference.instead_embeddings),
        ("`/images`, `/videos`", texts.docs_reference.instead_images),
        ("`/audio`, `/realtime`", nothing),
        ("`/files`, `/uploads`, `/vector_stores`", texts.docs_reference.instead_files),
        ("`/batches` (Batch API)", texts.docs_reference.instead_batches),
        (
            "`/assistants`, `/threads`, `/conversations` (Assistants API)",
            texts.docs_reference.instead_threads,
        ),
        ("`/moderations`, `/fine_tuning`, `/evals`", nothing),
    )
    headers = (texts.docs_reference.route, texts.docs_reference.instead)
    return Table(texts.docs_reference.missing_table, headers, rows)


def reference(
    routes: Sequence[RouteDetails], shapes: Sequence[Table], locale: Language
) -> list[Section]:
    """Return the sections with every route, the OpenAPI document, answers and notes."""
    texts = locale.texts
    return [
        Section(
            "routes", texts.docs_reference.routes_title, texts.docs_reference.routes, wide=routes
        ),
        Section(
            "missing",
            texts.docs_reference.missing_title,
            texts.docs_reference.missing,
            wide=(missing_routes(locale),),
        ),
        Section(
            "openapi",
            texts.docs_reference.openapi_title,
            texts.docs_reference.openapi,
            (OPENAPI,),
        ),
        Section(
            "answers",
            texts.docs_reference.answers_title,
            texts.docs_reference.answers,
            wide=shapes,
        ),
        Section("notes", texts.docs_reference.notes_title, texts.docs_reference.notes),
    ]
