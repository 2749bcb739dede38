"""The owner's page of keys: see them, make them, change them, end them.

Every step is a plain form. A script of the page shows the same forms in a dialog beside the list.
A new secret is in the answer to the form that made it, and nowhere else: no redirect could carry
it without its being kept somewhere.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from server.data_dir import DataDirectory
from server.export import encode_export
from server.handlers.keys import OwnerHandler
from server.handlers.queries import read_number
from server.key_requests import parse_key_changes, parse_new_key, parse_rotation
from server.keys import Key, KeyChanges, Limits, NewKey
from webui import key_form, key_rows
from webui.figures import count
from webui.filters import link
from webui.key_cells import Tab, key_cells
from webui.key_form import KeyForm, RefusedForm, checked
from webui.key_rows import Moment
from webui.pages import OwnerPageHandler
from workers.catalog import Model
from workers.errors import InvalidRequest, NotFound

FORM_BYTES = 64 * 1024
PER_PAGE = 100
SHOWN = ("", "revoked")


class OwnersKeysHandler(OwnerPageHandler, OwnerHandler):
    """What the pages of keys share."""

    section = "Keys"
    body_limit: ClassVar[int | None] = FORM_BYTES

    def find(self, key_id: str) -> Key:
        """Find a key by its id. Raises NotFound."""
        try:
            return self.services.keys.get(key_id)
        except NotFound as error:
            raise NotFound("There is no such key.") from error

    def show_key(self, template: str, key: Key | None, status: int = 200, **values: object) -> None:
        """Show a page about one key, or about the one that is to be."""
        state = key_rows.state_of(key) if key is not None else ""
        about: dict[str, Any] = {
            "key": key,
            "state": state,
            "tone": key_rows.STATES.get(state, ""),
            "problems": {},
        }
        self.show(template, status, **(about | values))

    def show_form(
        self,
        form: KeyForm,
        key: Key | None = None,
        problems: Mapping[str, str] | None = None,
        preset: str = "",
    ) -> None:
        """Show the form of a key with what was typed, and what is wrong with it."""
        beside = key_form.SHOWN_NEW if key is None else key_form.SHOWN
        self.show_key(
            "keys/form.html",
            key,
            400 if problems else 200,
            form=form,
            problems=problems or {},
            stray=[words for field, words in (problems or {}).items() if field not in beside],
            fields=key_form,
            models=self._models_of(form),
            presets=key_form.presets(key_rows.today()),
            preset=preset,
            encode=lambda value: msgspec.json.encode(value).decode(),
            is_revoked=key is not None and key.status == "revoked",
            period=key_form.chosen_period(form.text("budget_period")),
        )

    def show_secret(self, key: Key, secret: str, status: int) -> None:
        """Show a secret, this once, and how to try it."""
        base_url = f"{self.base_url()}/api/v1"
        self.show_key(
            "keys/created.html",
            key,
            status,
            secret=secret,
            env=f"OPENAI_API_KEY={secret}\nOPENAI_BASE_URL={base_url}",
            curl=curl_test(base_url, secret, self._model_to_try(key)),
            facts=" · ".join(_secret_facts(key)),
        )

    def new_key(self, body: bytes) -> NewKey:
        """Read a new key as the API does, models included."""
        default = self.services.config.keys.requests_per_minute
        new = parse_new_key(body, defaults=Limits(requests_per_minute=default or None))
        self.check_models(new.models)
        return new

    def changes(self, body: bytes) -> KeyChanges:
        """Read changes as the API does, models included."""
        changes = parse_key_changes(body)
        if isinstance(changes.models, tuple):
            self.check_models(changes.models)
        return changes

    def _models_of(self, form: KeyForm) -> list[tuple[str, str]]:
        """List the models to tick: the catalog's, then those that have gone from it."""
        models = self.services.catalog.models
        shown = [(model.id, model.name) for model in models.values()]
        return shown + [(name, "not in the catalog") for name in form.models if name not in models]

    def _model_to_try(self, key: Key) -> str:
        """Choose a model for a first request: one that the key may use, and that is served."""

        def rank(model: Model) -> tuple[bool, bool]:
            return (
                key.models is not None and model.id not in key.models,
                not model.live_deployments(),
            )

        return min(self.services.catalog, key=rank).id if self.services.catalog.models else "MODEL"


class KeysPageHandler(OwnersKeysHandler):
    """The list, and where a new key's form goes."""

    async def get(self) -> None:
        """List the keys, newest first: those that can be used again, or the revoked ones."""
        shown = self.get_query_argument("show", "")
        if shown not in SHOWN:
            raise InvalidRequest("'show' must be 'revoked', or left away.", param="show")
        services, now = self.services, time.time()
        keys = services.keys.list()[::-1]
        listed = [key for key in keys if (key.status == "revoked") == (shown == "revoked")]
        pages = max(1, -(-len(listed) // PER_PAGE))
        page = read_number("page", self.get_query_argument("page", ""), pages) or 1
        days = key_rows.last_days(now)
        uses = key_rows.add_up_by_key(await services.store.usage_by(days[0], days[-1]))
        part = listed[(page - 1) * PER_PAGE : page * PER_PAGE]
        revoked = sum(key.status == "revoked" for key in keys)
        rows = key_rows.rows_of(part, uses, services.counters, now)
        written_at = await asyncio.to_thread(_written_at, self._export_path())
        self.show(
            "keys/list.html",
            rows=[key_cells(row) for row in rows],
            tabs=(
                Tab("In use", "/keys", count(len(keys) - revoked), not shown),
                Tab("Revoked", "/keys?show=revoked", count(revoked), bool(shown)),
            ),
            shown=shown,
            page=page,
            pages=pages,
            newer=link("/keys", page=page - 1, show=shown) if page > 1 else "",
            older=link("/keys", page=page + 1, show=shown) if page < pages else "",
            days=key_rows.DAYS,
            written=Moment.of(written_at) if written_at is not None else None,
        )

    async def post(self) -> None:
        """Make a key and show its secret, or the form again with what is wrong."""
        form = KeyForm.sent(self.take_form())
        try:
            new = checked(form.body(), self.new_key)
        except RefusedForm as refused:
            self.show_form(form, problems=refused.problems)
            return
        key, secret = await self.services.keys.create(new)
        self.show_secret(key, secret, 201)

    def _export_path(self) -> Path:
        return DataDirectory(Path(self.services.config.server.data_dir)).export


class NewKeyPageHandler(OwnersKeysHandler):
    """The form of a new key on a page of its own."""

    def get(self) -> None:
        """Show it, filled for a preset if one is named."""
        wanted = self.get_query_argument("preset", "")
        default = self.services.config.keys.requests_per_minute
        texts = {"requests_per_minute": str(default or ""), "budget_period": "month"}
        if wanted:
            found = {name: fields for name, _, fields in key_form.presets(key_rows.today())}
            if wanted not in found:
                raise InvalidRequest("'preset' must be personal, app or trial.", param="preset")
            texts = found[wanted]
        self.show_form(KeyForm(texts), preset=wanted)


class KeyPageHandler(OwnersKeysHandler):
    """One key: its form, and the ways to its other steps."""

    def get(self, key_id: str) -> None:
        """Show it."""
        key = self.find(key_id)
        self.show_form(KeyForm.of(key), key)

    async def post(self, key_id: str) -> None:
        """Change it and go back to the list, or show the form again with what is wrong."""
        form, key = KeyForm.sent(self.take_form()), self.find(key_id)
        try:
            changes = checked(form.body(key), self.changes)
        except RefusedForm as refused:
            self.show_form(form, key, refused.problems)
            return
        await self.services.keys.change(key_id, changes)
        self.redirect_to("/keys")


class SwitchKeyHandler(OwnersKeysHandler):
    """Off and on again."""

    async def post(self, key_id: str, step: str) -> None:
        """Disable a key, which ends its running requests, or enable it."""
        self.take_form()
        key = self.find(key_id)
        changes = KeyChanges(status="disabled" if step == "disable" else "active")
        await self.services.keys.change(key.id, changes)
        self.redirect_to("/keys")


class RotatePageHandler(OwnersKeysHandler):
    """A new secret for a key."""

    def get(self, key_id: str) -> None:
        """Ask when the old one is to end."""
        self.show_key("keys/rotate.html", self.find(key_id), grace=key_form.GRACE, chosen="0")

    async def post(self, key_id: str) -> None:
        """Rotate and show the new secret."""
        fields, key = self.take_form(), self.find(key_id)
        chosen = fields.get("grace_s", "")
        try:
            grace_s = checked({"grace_s": key_form.number(chosen)}, parse_rotation)
        except RefusedForm as refused:
            self.show_key(
                "keys/rotate.html",
                key,
                400,
                grace=key_form.GRACE,
                chosen=chosen,
                problems=refused.problems,
            )
            return
        key, secret = await self.services.keys.rotate(key_id, grace_s)
        self.show_secret(key, secret, 200)


class RevokePageHandler(OwnersKeysHandler):
    """The end of a key, confirmed by its name."""

    def get(self, key_id: str) -> None:
        """Ask for the name."""
        self.show_key("keys/revoke.html", self.find(key_id), typed="")

    async def post(self, key_id: str) -> None:
        """Revoke it for good, if that is its name."""
        fields, key = self.take_form(), self.find(key_id)
        typed = fields.get("name", "")
        if as_shown(typed) != as_shown(key.name):
            problems = {"name": "This is not the name of the key. Nothing was changed."}
            self.show_key("keys/revoke.html", key, 400, typed=typed, problems=problems)
            return
        await self.services.keys.revoke(key_id)
        self.redirect_to("/keys")


class KeysExportHandler(OwnersKeysHandler):
    """All keys as a file, as `api-keys.json` has them."""

    def get(self) -> None:
        """Send what the file would hold if it were written now: hashes, never a secret."""
        content = encode_export(self.services.keys.list(), int(time.time()))
        self.reply(200, content, {"Content-Disposition": 'attachment; filename="api-keys.json"'})

    def add_headers(self, headers: dict[str, str]) -> None:
        """Protect the answer as any page, but call the file what it is."""
        super().add_headers(headers)
        if "Content-Disposition" in headers:
            headers["Content-Type"] = "application/json"


def as_shown(name: str) -> str:
    """Give a name as a browser shows it: runs of spaces are one."""
    return " ".join(name.split())


def curl_test(base_url: str, secret: str, model: str) -> str:
    """Write a command that tries a key from a shell."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    return (
        f"curl {shlex.quote(f'{base_url}/chat/completions')} \\\n"
        f"  -H 'Authorization: Bearer {secret}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(msgspec.json.encode(body).decode())}"
    )


def _secret_facts(key: Key) -> list[str]:
    """List what to know with a new secret: limits, models and how long it is good."""
    facts = [key_rows.limits_in_words(key.limits), key_rows.models_in_words(key)]
    if key.expires_at is not None:
        facts.append(f"until {Moment.of(key.expires_at).day}")
    if key.previous_until is not None:
        until = Moment.of(key.previous_until)
        facts[-1] += f". The old secret is good until {until.day} {until.minute} UTC"
    return facts


def _written_at(path: Path) -> float | None:
    """Tell when a file was last written; None: it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
