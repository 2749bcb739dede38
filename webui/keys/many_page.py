"""Serve the page that creates many keys from a pasted list of names, after a preview.

All keys are created or none. Their secrets, or their invitations, are part of the answer alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from msgspec import structs

from server.keys.key_requests import parse_new_key
from server.store.rows import KeyQuery
from webui.keys import key_form, key_rows
from webui.keys.invitation_views import invitation_link, invitation_text, only_here
from webui.keys.key_form import KeyForm, RefusedForm, checked
from webui.keys.key_views import models_to_tick, read_new_key
from webui.keys.keys_page import KeysSectionHandler
from webui.keys.pasted_names import read_names, write_names
from webui.shell.texts import Language, fill
from workers.units import KIB

MAX_NAMES = 500
BODY_BYTES = 512 * KIB
PICK = "pick:"
"""A name in the preview is a field of its own, `pick:NUMBER`, which is sent while it is ticked."""
MAKES = ("secrets", "invitations")


class Listed(NamedTuple):
    """One line of the pasted list; `mark` says why it is not ticked, `refused` that it cannot be.

    `value` is what the preview sends back.
    """

    name: str
    note: str
    mark: str
    refused: bool

    @property
    def value(self) -> str:
        """Return the line."""
        return f"{self.name}\t{self.note}" if self.note else self.name


class MadeLine(NamedTuple):
    """A key that was created: its secret, or the link of its invitation and the text to send."""

    id: str
    name: str
    note: str
    secret: str
    message: str


class ManyKeysPageHandler(KeysSectionHandler):
    """The page at `/keys/many`."""

    body_limit = BODY_BYTES
    script_texts: ClassVar[tuple[str, ...]] = ("once",)

    def get(self) -> None:
        """Show the form."""
        default = self.services.config.keys.requests_per_minute
        texts = {"requests_per_minute": str(default or ""), "budget_period": "month"}
        self._show_form(KeyForm(texts), {})

    async def post(self) -> None:
        """Show the preview of the list; create the keys that it has confirmed."""
        fields = self.take_form()
        form = KeyForm.sent(fields)
        if "change" in fields:
            self._show_form(form, {})
            return
        confirmed = "confirmed" in fields
        picked = [text for name, text in fields.items() if name.startswith(PICK)]
        names = (
            [_split(text) for text in picked] if confirmed else read_names(fields.get("names", ""))
        )
        problems = dict(self._problems(form, names))
        if confirmed and not names:
            problems = {"names": self.language().texts.keys.bad_pick}
        if fields.get("makes", "") not in MAKES:
            problems["makes"] = self.language().texts.keys.bad_makes
        if problems:
            self._show_form(form, problems)
            return
        listed = await self._listed(names)
        refused = [one for one in listed if one.refused]
        if confirmed and not refused:
            await self._create(form, names, with_invitations=fields["makes"] == "invitations")
            return
        kept = {
            name: text
            for name, text in fields.items()
            if name not in ("xsrf", "names", "confirmed") and not name.startswith(PICK)
        }
        self.show(
            "keys/many_preview.html",
            listed=listed,
            kept=kept,
            pick=PICK,
            ready=sum(not one.mark for one in listed),
            marked=sum(bool(one.mark) for one in listed),
            names=write_names((one.name, one.note) for one in listed),
            with_invitations=fields["makes"] == "invitations",
        )

    def _problems(self, form: KeyForm, names: Sequence[tuple[str, str]]) -> Mapping[str, str]:
        """Return what is wrong with the list as a whole and with the rules of its keys."""
        try:
            read_new_key(self, KeyForm({**form.texts, "name": "-", "note": ""}, form.models))
        except RefusedForm as refused:
            return refused.problems
        texts = self.language().texts
        if not names:
            return {"names": texts.keys.no_names}
        if len(names) > MAX_NAMES:
            return {"names": fill(texts.keys.too_many_names, most=MAX_NAMES)}
        return {}

    async def _listed(self, names: Sequence[tuple[str, str]]) -> list[Listed]:
        """Return the lines of the preview, with duplicates and refused names marked."""
        known = await asyncio.gather(*(self._exists(name) for name, _ in names))
        language, seen = self.language(), set[str]()
        listed = []
        for (name, note), exists in zip(names, known, strict=True):
            mark = _refusal(name, note, language)
            refused = bool(mark)
            if not mark and name.casefold() in seen:
                mark = language.texts.keys.twice
            elif not mark and exists:
                mark = language.texts.keys.exists
            seen.add(name.casefold())
            listed.append(Listed(name, note, mark, refused))
        return listed

    async def _exists(self, name: str) -> bool:
        query = KeyQuery(name=name, revoked=False, limit=1)
        return bool(await self.services.keys.list(query))

    async def _create(
        self, form: KeyForm, names: Sequence[tuple[str, str]], *, with_invitations: bool
    ) -> None:
        language = self.language()
        pattern = read_new_key(self, KeyForm({**form.texts, "name": "-", "note": ""}, form.models))
        new = [structs.replace(pattern, name=name, note=note) for name, note in names]
        made = await self.services.keys.create_all(new)
        secrets = [secret for _, secret in made]
        messages = [""] * len(made)
        if with_invitations:
            invited = await self.services.invitations.invite(
                [key.id for key, _ in made], gives_key=True
            )
            secrets = [invitation_link(self, one) for one in invited]
            messages = [invitation_text(self, one) for one in invited]
        lines = [
            MadeLine(key.id, key.name, key.note, secret, message)
            for (key, _), secret, message in zip(made, secrets, messages, strict=True)
        ]
        self.show(
            "keys/many_made.html",
            201,
            lines=lines,
            with_invitations=with_invitations,
            only_here=only_here(self) if with_invitations else "",
            facts=" · ".join(
                (
                    key_rows.limits_in_words(pattern.limits, language),
                    key_rows.models_in_words(made[0][0], language),
                )
            ),
        )

    def _show_form(self, form: KeyForm, problems: Mapping[str, str]) -> None:
        texts = self.language().texts
        self.show(
            "keys/many.html",
            400 if problems else 200,
            form=form,
            problems=problems,
            stray=[
                words
                for field, words in problems.items()
                if field not in (*key_form.SHOWN_NEW, "names", "makes")
            ],
            fields=key_form.fields_of(texts),
            key=None,
            models=models_to_tick(self.services.catalog, form, texts),
            period=key_form.chosen_period(form.text("budget_period")),
            makes={
                "secrets": (texts.keys.keys, texts.keys.makes_keys_about),
                "invitations": (texts.keys.invitations, texts.keys.makes_invitations_about),
            },
            chosen=form.text("makes") or "secrets",
            most=MAX_NAMES,
        )


def _split(line: str) -> tuple[str, str]:
    """Return the name and the note of a line of the preview."""
    name, _, note = line.partition("\t")
    return name.strip(), note.strip()


def _refusal(name: str, note: str, language: Language) -> str:
    """Return why a name cannot be used, or ""."""
    try:
        checked({"name": name, "note": note}, parse_new_key, language)
    except RefusedForm as refused:
        return " ".join(refused.problems.values())
    return ""
