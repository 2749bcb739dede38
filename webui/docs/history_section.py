"""The section of the documentation about the chat history: what is stored, and who can read it."""

from __future__ import annotations

from server.config.settings import History
from webui.docs.parts import Section
from workers.units import MIB


def chat_history(rules: History) -> Section:
    """Return the section, as this server is configured."""
    return Section("history", "Chat history", _stored(rules) if rules.enabled else SWITCHED_OFF)


SWITCHED_OFF = """
The chat history is turned off on this server (`history.enabled`). Conversations stay in the
browser where they were written. Clearing the browser's data deletes them; export them first.
"""


def _stored(rules: History) -> str:
    kept = (
        f"{rules.retention_days:,} days after their last change"
        if rules.retention_days
        else "until you delete them"
    )
    links = (
        """**Links.** Share makes a link to a copy of a conversation, or of one answer. Whoever has
        the link can read the copy without signing in. Messages that follow are not in it. Deleting
        the link, the conversation or the key ends it at once. Search engines are asked to
        stay away."""
        if rules.shares
        else "**Links** to conversations are turned off on this server (`history.shares`)."
    )
    return f"""
    The chat keeps the conversations of people who sign in on this server, so that every device
    shows the same list. Guests keep theirs in the browser.

    - **What is stored.** Titles, messages, branches, drafts, attached files and the settings of
    the chat. They are kept {kept}. Temporary chats are not stored. Each person has
    {rules.quota_bytes // MIB:,} MB.
    - **Who can read it.** Each key sees its own conversations only. No page or route shows them to
    the owner. They are not encrypted in the database: anyone who runs this server, or has a copy
    of its database, can read them.
    - **Deleting.** Undo brings a deleted conversation back. After that it is erased, at the latest
    after a day. `roxy.db` is overwritten where it was, and backups made afterwards do not
    have it; older backups still do. The history of a revoked key is erased after 30 days.
    - {links}

    Programs use the same routes with a key. `GET /api/v1/history/changes?since=0` lists the
    conversations; pass `cursor` back as `since` to get what has changed since then.
    `GET /api/v1/history/export` returns everything in one file, which the chat imports. A write
    names the version it was made from (`base`): what another device has changed meanwhile is not
    overwritten but returned in `conflicts`.
    """
