"""Serve the owner's pages of keys: list, create, change, rotate and revoke them.

Every step is a plain form. A script of the page shows the same forms in a dialog beside the list.
A new secret is part of the answer to the form that created it, without a redirect: to survive a
redirect it would have to be stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from msgspec import structs

from server.http.query import read_number
from server.keys.export import encode_in_steps
from server.keys.key_requests import parse_rotation
from server.store.key import Key, KeyChanges
from server.store.rows import KeyQuery
from server.store.usage_queries import SumsQuery
from webui.keys import key_form, key_rows
from webui.keys.invitation_views import show_invitation
from webui.keys.key_cells import key_cells
from webui.keys.key_form import KeyForm, RefusedForm, checked
from webui.keys.key_lists import ListView, key_tabs, sort_names
from webui.keys.key_rows import Moment, Use
from webui.keys.key_views import (
    find_key,
    read_changes,
    read_new_key,
    show_form,
    show_key,
    show_secret,
)
from webui.shell.pages import PageHandler
from workers.errors import InvalidRequest

PER_PAGE = 50
"""Rows of names that are as long as names can be make a page of 250 kB."""
WORTH_SEARCHING = 5


class KeysSectionHandler(PageHandler):
    """A page about keys, which only the owner may see."""

    access = "owner"
    section = "keys"
    translated = True
    script_texts: ClassVar[tuple[str, ...]] = ("key_dialog", "once")


class ListPage(NamedTuple):
    """The keys of one page of the list, how many keys the whole list has, and the page's number."""

    keys: Sequence[Key]
    listed: int
    page: int


def pages_of(listed: int) -> int:
    """Return how many pages a list has; an empty one has a page, too."""
    return max(1, -(-listed // PER_PAGE))


class KeysPageHandler(KeysSectionHandler):
    """The list of keys, and the target of a new key's form."""

    async def get(self) -> None:
        """List the keys in use, or the revoked ones; search and sort them."""
        view = ListView.read(self)
        services, now, language = self.services, time.time(), self.language()
        revoked = await services.store.count_keys(KeyQuery(revoked=True))
        in_use = await services.store.count_keys() - revoked
        all_listed = revoked if view.shown else in_use
        keys, listed, page = await self._find_page(view, all_listed)
        pages = pages_of(listed)
        uses = await self._uses(keys, now)
        rows = await key_rows.rows_of(keys, uses, services.counters, now, language)
        written_at = await asyncio.to_thread(_written_at, services.directory.export)
        self.show(
            "keys/list.html",
            rows=[key_cells(row, language) for row in rows],
            tabs=key_tabs(view, language, in_use=in_use, revoked=revoked),
            shown=view.shown,
            search=view.search,
            sort=view.sort,
            sorts=sort_names(language.texts),
            headings=view.headings(),
            without_search=view.link(search=""),
            listed=listed,
            has_search=bool(view.search) or all_listed >= WORTH_SEARCHING,
            page=page,
            pages=pages,
            previous=view.link(page=page - 1) if page > 1 else "",
            following=view.link(page=page + 1) if page < pages else "",
            days=key_rows.DAYS,
            written=Moment.of(written_at, language.figures) if written_at is not None else None,
        )

    async def _find_page(self, view: ListView, all_listed: int) -> ListPage:
        """Find the keys of the page that the address states. `all_listed`: without a search."""
        services, wanted = self.services, self.get_query_argument("page", None)
        query = view.query(since=key_rows.last_days(time.time())[0])
        if view.search and wanted is None:
            # A first page with room left has all that match, and a count would search once more.
            keys = await services.keys.list(structs.replace(query, limit=PER_PAGE))
            is_whole = len(keys) < PER_PAGE
            count = len(keys) if is_whole else await services.store.count_keys(query)
            return ListPage(keys, count, 1)
        listed = await services.store.count_keys(query) if view.search else all_listed
        page = read_number("page", wanted, pages_of(listed)) or 1
        part = structs.replace(query, offset=(page - 1) * PER_PAGE, limit=PER_PAGE)
        return ListPage(await services.keys.list(part), listed, page)

    async def _uses(self, keys: Sequence[Key], now: float) -> dict[str, Use]:
        """Return what keys used on the days shown."""
        days, ids = key_rows.last_days(now), [key.id for key in keys]
        if not ids:
            return {}
        query = SumsQuery(days[0], days[-1], ("day", "key_id"), key_id=ids)
        return key_rows.add_up_by_key(await self.services.store.usage_by(query))

    async def post(self) -> None:
        """Create a key and show its secret, or show the form again with its problems."""
        fields = self.take_form()
        form = KeyForm.sent(fields)
        try:
            new = read_new_key(self, form)
        except RefusedForm as refused:
            show_form(self, form, problems=refused.problems)
            return
        key, secret = await self.services.keys.create(new)
        if fields.get("then") == "invite":
            (made,) = await self.services.invitations.invite([key.id], gives_key=True)
            show_invitation(self, key, made, 201)
        else:
            show_secret(self, key, secret, 201)


class NewKeyPageHandler(KeysSectionHandler):
    """The form of a new key on a page of its own."""

    async def get(self) -> None:
        """Show the form: empty, filled for a preset, or filled like another key."""
        wanted = self.get_query_argument("preset", "")
        like = self.get_query_argument("like", "")
        default = self.services.config.keys.requests_per_minute
        form = KeyForm({"requests_per_minute": str(default or ""), "budget_period": "month"})
        if wanted:
            presets = key_form.presets(key_rows.today(), self.language().texts)
            found = {preset.id: preset.fields for preset in presets}
            if wanted not in found:
                raise InvalidRequest("'preset' must be personal, app or trial.", param="preset")
            form = KeyForm(found[wanted])
        elif like:
            form = KeyForm.like(await find_key(self, like))
        show_form(self, form, preset=wanted)


class KeyPageHandler(KeysSectionHandler):
    """One key: its form, and links to its other steps."""

    async def get(self, key_id: str) -> None:
        """Show the form of the key."""
        key = await find_key(self, key_id)
        show_form(self, KeyForm.of(key), key)

    async def post(self, key_id: str) -> None:
        """Change the key and redirect to the list, or show the form again with its problems."""
        form, key = KeyForm.sent(self.take_form()), await find_key(self, key_id)
        try:
            changes = read_changes(self, form, key)
        except RefusedForm as refused:
            show_form(self, form, key, refused.problems)
            return
        await self.services.keys.change(key_id, changes)
        self.redirect_to("/keys")


class SwitchKeyHandler(KeysSectionHandler):
    """The buttons that disable and enable a key."""

    async def post(self, key_id: str, step: str) -> None:
        """Disable a key, which stops its running requests, or enable it."""
        self.take_form()
        key = await find_key(self, key_id)
        changes = KeyChanges(status="disabled" if step == "disable" else "active")
        await self.services.keys.change(key.id, changes)
        self.redirect_to("/keys")


class RotatePageHandler(KeysSectionHandler):
    """The page that rotates a key's secret."""

    async def get(self, key_id: str) -> None:
        """Ask when the old secret is to end."""
        grace = key_form.grace_of(self.language().texts)
        show_key(self, "keys/rotate.html", await find_key(self, key_id), grace=grace, chosen="0")

    async def post(self, key_id: str) -> None:
        """Rotate the key and show its new secret."""
        fields, key = self.take_form(), await find_key(self, key_id)
        chosen = fields.get("grace_s", "")
        try:
            grace_s = checked({"grace_s": key_form.number(chosen)}, parse_rotation, self.language())
        except RefusedForm as refused:
            show_key(
                self,
                "keys/rotate.html",
                key,
                400,
                grace=key_form.grace_of(self.language().texts),
                chosen=chosen,
                problems=refused.problems,
            )
            return
        key, secret = await self.services.keys.rotate(key_id, grace_s)
        show_secret(self, key, secret, 200)


class RevokePageHandler(KeysSectionHandler):
    """The page that revokes a key, confirmed by typing its name."""

    async def get(self, key_id: str) -> None:
        """Ask for the name."""
        show_key(self, "keys/revoke.html", await find_key(self, key_id), typed="")

    async def post(self, key_id: str) -> None:
        """Revoke the key permanently, if the name is right."""
        fields, key = self.take_form(), await find_key(self, key_id)
        typed = fields.get("name", "")
        # HTML collapses spaces, so a name with two of them cannot be copied from the page.
        if as_shown(typed) != as_shown(key.name):
            problems = {"name": self.language().texts.keys.bad_confirmation}
            show_key(self, "keys/revoke.html", key, 400, typed=typed, problems=problems)
            return
        await self.services.keys.revoke(key_id)
        self.redirect_to("/keys")


class KeysExportHandler(KeysSectionHandler):
    """All keys as a file, in the format of `api-keys.json`."""

    async def get(self) -> None:
        """Send the current export: hashes of secrets, never a secret."""
        pieces = encode_in_steps(self.services.keys, int(time.time()))
        headers = {"Content-Disposition": 'attachment; filename="api-keys.json"'}
        await self.reply_in_pieces(pieces, headers)

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of a page, with the content type of the file."""
        super().add_headers(headers)  # sets the content type of a page
        if "Content-Disposition" in headers:
            headers["Content-Type"] = "application/json"


def as_shown(name: str) -> str:
    """Return a name as a browser shows it, with runs of spaces joined."""
    return " ".join(name.split())


def _written_at(path: Path) -> float | None:
    """Return the time of a file's last change, or None when it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
