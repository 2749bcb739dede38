"""Show and read the forms of one key; every function takes the page that it works for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from server.keys.key_requests import default_limits, parse_key_changes, parse_new_key
from server.store.key import Key, KeyChanges, NewKey
from webui.keys import key_form, key_rows
from webui.keys.key_form import KeyForm, checked
from webui.keys.key_rows import Moment
from webui.shell.pages import PageHandler
from webui.shell.texts import Language, fill
from workers.catalog.catalog import Catalog, Model
from workers.errors import NotFound


async def find_key(page: PageHandler, key_id: str) -> Key:
    """Return a key by its id. Raises NotFound."""
    try:
        return await page.services.keys.get(key_id)
    except NotFound as error:
        page.said = page.language().texts.keys.no_such_key
        raise NotFound("There is no such key.") from error


def read_new_key(page: PageHandler, form: KeyForm) -> NewKey:
    """Read a new key by the rules of the API, models included. Raises RefusedForm."""
    defaults = default_limits(page.services.config.keys)
    models = page.services.catalog.models
    parse = partial(parse_new_key, defaults=defaults, catalog_models=models)
    return checked(form.body(), parse, page.language())


def read_changes(page: PageHandler, form: KeyForm, key: Key) -> KeyChanges:
    """Read changes to a key by the rules of the API, models included. Raises RefusedForm."""
    models = page.services.catalog.models
    parse = partial(parse_key_changes, catalog_models=models)
    return checked(form.body(key), parse, page.language())


def show_key(
    page: PageHandler, template: str, key: Key | None, status: int = 200, **values: object
) -> None:
    """Show a page about one key; `key` is None for a key that does not exist yet."""
    status_now = key_rows.shown_status(key) if key is not None else ""
    about: dict[str, Any] = {
        "key": key,
        "shown_status": key_rows.status_in_words(status_now, page.language().texts)
        if status_now
        else "",
        "tone": key_rows.TONES.get(status_now, ""),
        "problems": {},
    }
    page.show(template, status, **(about | values))


def show_form(
    page: PageHandler,
    form: KeyForm,
    key: Key | None = None,
    problems: Mapping[str, str] | None = None,
    preset: str = "",
) -> None:
    """Show the form of a key with the texts as typed and the problem of each field."""
    texts = page.language().texts
    own_fields = key_form.SHOWN_NEW if key is None else key_form.SHOWN
    show_key(
        page,
        "keys/form.html",
        key,
        400 if problems else 200,
        form=form,
        problems=problems or {},
        stray=[words for field, words in (problems or {}).items() if field not in own_fields],
        fields=key_form.fields_of(texts),
        models=models_to_tick(page.services.catalog, form, texts),
        presets=key_form.presets(key_rows.today(), texts),
        preset=preset,
        encode=lambda value: msgspec.json.encode(value).decode(),
        is_revoked=key is not None and key.status == "revoked",
        period=key_form.chosen_period(form.text("budget_period")),
    )


def show_secret(page: PageHandler, key: Key, secret: str, status: int) -> None:
    """Show a secret once, with a command that tries it."""
    base_url = f"{page.base_url()}/api/v1"
    show_key(
        page,
        "keys/created.html",
        key,
        status,
        secret=secret,
        env=env_lines(page, secret),
        curl=curl_test(
            base_url,
            secret,
            _model_to_try(page.services.catalog, key),
            page.language().texts.keys.hello,
        ),
        facts=" · ".join(_secret_facts(key, page.language())),
    )


def env_lines(page: PageHandler, secret: str) -> str:
    """Return the variables that OpenAI's SDKs read, for this gateway and a secret."""
    return f"OPENAI_API_KEY={secret}\nOPENAI_BASE_URL={page.base_url()}/api/v1"


def curl_test(base_url: str, secret: str, model: str, question: str) -> str:
    """Return a shell command that sends a first request with a key."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    return (
        f"curl {shlex.quote(f'{base_url}/chat/completions')} \\\n"
        f"  -H 'Authorization: Bearer {secret}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(msgspec.json.encode(body).decode())}"
    )


def _secret_facts(key: Key, language: Language) -> list[str]:
    """Return what to know with a new secret: limits, models and how long it is valid."""
    texts = language.texts
    facts = [
        key_rows.limits_in_words(key.limits, language),
        key_rows.models_in_words(key, language),
    ]
    if key.expires_at is not None:
        facts.append(fill(texts.keys.until, day=Moment.of(key.expires_at, language.figures).day))
    if key.previous_until is not None:
        until = Moment.of(key.previous_until, language.figures)
        facts.append(fill(texts.keys.old_until, day=until.day, minute=until.minute))
    return facts


def models_to_tick(catalog: Catalog, form: KeyForm, texts: Any) -> list[tuple[str, str]]:
    """Return ids and names: models that are served, the others, ticked ones without a model."""
    served_first = sorted(catalog, key=lambda model: not model.live_deployments())
    shown = [(model.id, model.name) for model in served_first]
    gone = [name for name in form.models if name not in catalog.models]
    return shown + [(name, texts.keys.not_in_catalog) for name in gone]


def _model_to_try(catalog: Catalog, key: Key) -> str:
    """Return the id of a model that the key may use, one that is served if possible."""

    def rank(model: Model) -> tuple[bool, bool]:
        return (
            key.models is not None and model.id not in key.models,
            not model.live_deployments(),
        )

    return min(catalog, key=rank).id if catalog.models else "MODEL"
