"""Write invitations for display: the text to send, and the rows of the list."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from server.identity.client_addresses import is_loopback
from server.identity.invitations import Made
from server.store.key import Key
from server.store.rows import InvitationRow
from webui.keys.key_rows import Moment, shown_status, status_in_words
from webui.keys.key_views import show_key
from webui.shell.brand import brand_of
from webui.shell.pages import PageHandler
from webui.shell.texts import Language, fill
from workers.units import DAY_S

DAYS = (1, 7, 30)
DEFAULT_DAYS = 7
GIVES = ("key", "session")
"""What an invitation gives."""


def gives_of(texts: Any) -> dict[str, tuple[str, str]]:
    """Return for each of GIVES the name of the choice, and what it means."""
    return {
        "key": (texts.invitations.gives_key, texts.invitations.gives_key_about),
        "session": (texts.invitations.gives_session, texts.invitations.gives_session_about),
    }


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


def only_here(page: PageHandler) -> str:
    """Return a warning if links begin with an address of this machine, or ""."""
    host = urlsplit(page.base_url()).hostname or ""
    if not is_loopback(host):
        return ""
    return fill(page.language().texts.invitations.only_here, host=host)


def invitation_text(page: PageHandler, made: Made) -> str:
    """Return the text to send: the link, and how to sign in, use an app and find help."""
    base_url, invitation, texts = page.base_url(), made.invitation, page.language().texts
    until = Moment.of(invitation.expires_at, page.language().figures)
    with_key, without = texts.invitations.apps_with_key, texts.invitations.apps_ask
    return fill(
        texts.invitations.message,
        site=brand_of(page.services.config.web).name,
        link=invitation_link(page, made),
        go_on=texts.invitations.go_on,
        day=until.day,
        minute=until.minute,
        apps=fill(with_key if invitation.gives_key else without, url=f"{base_url}/api/v1"),
        docs=f"{base_url}/docs",
    )


def show_invitation(page: PageHandler, key: Key, made: Made, status: int) -> None:
    """Show a new invitation once: its link, and the text to send."""
    until = Moment.of(made.invitation.expires_at, page.language().figures)
    show_key(
        page,
        "invitations/made.html",
        key,
        status,
        link=invitation_link(page, made),
        message=invitation_text(page, made),
        until=until,
        gives_key=made.invitation.gives_key,
        only_here=only_here(page),
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
        gives=gives_of(page.language().texts),
        chosen=chosen,
        problems=problems or {},
    )


def read_lasts_s(text: str) -> int | None:
    """Return how long an invitation lasts, in seconds; None for a text that is no choice."""
    return int(text) * DAY_S if text in map(str, DAYS) else None


def invitation_lines(
    rows: Sequence[InvitationRow], keys: Mapping[str, Key], language: Language
) -> list[InvitationLine]:
    """Return the rows of the list, those that can still be used first."""
    now = time.time()
    lines = [_line(row, keys.get(row.key_id), now, language) for row in rows]
    return sorted(lines, key=lambda line: not line.is_open)


def _line(row: InvitationRow, key: Key | None, now: float, language: Language) -> InvitationLine:
    texts, figures = language.texts, language.figures
    status = shown_status(key, now) if key is not None else "revoked"
    is_open = row.ending is None and row.expires_at > now and status != "revoked"
    if row.ending is not None and row.ended_at is not None:
        ended = Moment.of(row.ended_at, figures)
        is_used = row.ending == "used"
        form = texts.invitations.used_at if is_used else texts.invitations.revoked_at
        state = fill(form, day=ended.day, minute=ended.minute)
        mark = "" if is_used else "bad"
    elif row.expires_at <= now:
        state, mark = texts.invitations.expired, ""
    elif status != "active":
        words = status_in_words(status, texts)
        state, mark = fill(texts.invitations.key_is, status=words), "warn"
    else:
        state, mark = texts.invitations.open, "good"
    return InvitationLine(
        id=row.id,
        key_id=row.key_id,
        name=key.name if key is not None else row.key_id,
        gives=gives_of(texts)["key" if row.gives_key else "session"][0],
        state=state,
        mark=mark,
        created=Moment.of(row.created_at, figures),
        expires=Moment.of(row.expires_at, figures),
        is_open=is_open,
    )
