"""Serve the owner's pages of invitations: make, list and revoke them."""

from __future__ import annotations

import time

from server.store.rows import KeyQuery
from webui.keys.invitation_views import (
    GIVES,
    invitation_lines,
    read_lasts_s,
    show_invitation,
    show_invite_form,
)
from webui.keys.key_lists import ListView, key_tabs
from webui.keys.key_rows import shown_status
from webui.keys.key_views import find_key
from webui.keys.keys_page import KeysSectionHandler


class InvitePageHandler(KeysSectionHandler):
    """The form of an invitation for a key."""

    async def get(self, key_id: str) -> None:
        """Show the form."""
        show_invite_form(self, await find_key(self, key_id))

    async def post(self, key_id: str) -> None:
        """Make the invitation and show its link, or show the form again with its problems."""
        fields, key = self.take_form(), await find_key(self, key_id)
        texts = self.language().texts
        self.said = {
            "revoked": texts.keys.is_revoked,
            "disabled": texts.invitations.key_disabled,
            "expired": texts.invitations.key_expired,
        }.get(shown_status(key, time.time()), "")
        days, gives = fields.get("days", ""), fields.get("gives", "")
        lasts_s = read_lasts_s(days)
        problems = {}
        if lasts_s is None:
            problems["days"] = texts.invitations.bad_days
        if gives not in GIVES:
            problems["gives"] = texts.invitations.bad_gives
        if lasts_s is None or problems:
            show_invite_form(self, key, days=days, gives=gives, problems=problems)
            return
        key, made = await self.services.invitations.invite_holder(
            key.id, lasts_s=lasts_s, gives_key=gives == "key"
        )
        show_invitation(self, key, made, 201)


class InvitationsPageHandler(KeysSectionHandler):
    """The list of invitations."""

    async def get(self) -> None:
        """List the invitations: those that can be used, then those that have ended."""
        services = self.services
        rows = await services.invitations.list()
        keys = await services.keys.find_all({row.key_id for row in rows})
        total = await services.store.count_keys()
        revoked = await services.store.count_keys(KeyQuery(revoked=True))
        language = self.language()
        tabs = key_tabs(
            ListView(), language, in_use=total - revoked, revoked=revoked, current="invitations"
        )
        lines = invitation_lines(rows, keys, language)
        self.show("invitations/list.html", lines=lines, tabs=tabs)


class EndInvitationHandler(KeysSectionHandler):
    """The button that revokes an invitation."""

    async def post(self, invitation_id: str) -> None:
        """Revoke the invitation; one that has ended stays as it is."""
        self.take_form()
        await self.services.invitations.revoke(invitation_id)
        self.redirect_to("/keys/invitations")
