"""Write invitations for display: the text to send, and the rows of the list."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from server.identity.invitations import Made
from server.store.key import Key
from server.store.rows import InvitationRow
from webui.keys.key_rows import Moment, shown_status
from webui.keys.key_views import show_key
from webui.shell.brand import brand_of
from webui.shell.pages import PageHandler
from workers.units import DAY_S

DAYS = (1, 7, 30)
DEFAULT_DAYS = 7
GIVES = {
    "key": (
        "Sign-in and the key",
        "They see a new secret once, for apps and to sign in again. The current secret ends then.",
    ),
    "session": (
        "Sign-in only",
        "They are signed in on one browser. The key's secret stays as it is.",
    ),
}
"""What an invitation gives: the name of the choice, and what it means."""


class InvitationLine(NamedTuple):
    """An invitation in the list; `mark` is the colour of its dot."""

    id: str
    key_id: str
    name: str
    gives: str
    state: str
    mark: str
    created: Moment
    expires: Moment
    is_open: bool


def invitation_link(page: PageHandler, made: Made) -> str:
    """Return the link of a new invitation."""
    return page.base_url() + made.path


def invitation_text(page: PageHandler, made: Made) -> str:
    """Return the text to send: the link, and how to sign in, use an app and find help."""
    base_url, invitation = page.base_url(), made.invitation
    until = Moment.of(invitation.expires_at)
    apps = (
        f"Apps: base URL {base_url}/api/v1, with the key that you see after signing in."
        if invitation.gives_key
        else f"Apps: base URL {base_url}/api/v1. Ask me for a key."
    )
    return (
        f"You're invited to {brand_of(page.services.config.web).name}:"
        f" {invitation_link(page, made)}\n"
        "\n"
        "Sign in: open the link and select Continue. It works once, until"
        f" {until.day} {until.minute} UTC.\n"
        f"{apps}\n"
        f"Help: {base_url}/docs\n"
    )


def show_invitation(page: PageHandler, key: Key, made: Made, status: int) -> None:
    """Show a new invitation once: its link, and the text to send."""
    until = Moment.of(made.invitation.expires_at)
    show_key(
        page,
        "invitations/made.html",
        key,
        status,
        link=invitation_link(page, made),
        message=invitation_text(page, made),
        until=until,
        gives_key=made.invitation.gives_key,
    )


def show_invite_form(
    page: PageHandler,
    key: Key,
    *,
    days: str = str(DEFAULT_DAYS),
    gives: str = "",
    problems: Mapping[str, str] | None = None,
) -> None:
    """Show the form of an invitation; by default a key that was never used is given as well."""
    chosen = gives or ("key" if key.last_used_at is None else "session")
    show_key(
        page,
        "invitations/form.html",
        key,
        400 if problems else 200,
        days=DAYS,
        chosen_days=days,
        gives=GIVES,
        chosen=chosen,
        problems=problems or {},
    )


def read_lasts_s(text: str) -> int | None:
    """Return how long an invitation lasts, in seconds; None for a text that is no choice."""
    return int(text) * DAY_S if text in map(str, DAYS) else None


def invitation_lines(
    rows: Sequence[InvitationRow], keys: Mapping[str, Key]
) -> list[InvitationLine]:
    """Return the rows of the list, those that can still be used first."""
    now = time.time()
    lines = [_line(row, keys.get(row.key_id), now) for row in rows]
    return sorted(lines, key=lambda line: not line.is_open)


def _line(row: InvitationRow, key: Key | None, now: float) -> InvitationLine:
    status = shown_status(key, now) if key is not None else "revoked"
    is_open = row.ending is None and row.expires_at > now and status != "revoked"
    if row.ending is not None and row.ended_at is not None:
        ended = Moment.of(row.ended_at)
        state = f"{row.ending.capitalize()} {ended.day} {ended.minute}"
        mark = "" if row.ending == "used" else "bad"
    elif row.expires_at <= now:
        state, mark = "Expired", ""
    elif status != "active":
        state, mark = f"Cannot be used: the key is {status}", "warn"
    else:
        state, mark = "Open", "good"
    return InvitationLine(
        id=row.id,
        key_id=row.key_id,
        name=key.name if key is not None else row.key_id,
        gives=GIVES["key" if row.gives_key else "session"][0],
        state=state,
        mark=mark,
        created=Moment.of(row.created_at),
        expires=Moment.of(row.expires_at),
        is_open=is_open,
    )
