"""The section of the documentation about the chat history: what is stored, and who can read it."""

from __future__ import annotations

from server.config.settings import History
from webui.docs.parts import Section
from webui.shell.texts import Language, fill
from workers.units import MIB


def chat_history(rules: History, locale: Language) -> Section:
    """Return the section, as this server is configured."""
    texts = locale.texts
    prose = _stored(rules, locale) if rules.enabled else texts.docs_history.off
    return Section("history", texts.docs_history.title, prose)


def _stored(rules: History, locale: Language) -> str:
    texts, days = locale.texts, rules.retention_days
    return fill(
        texts.docs_history.stored,
        kept=locale.plural(texts.docs_history.kept_days, days) if days else texts.docs_history.kept,
        quota=locale.figures.count(rules.quota_bytes // MIB),
        links=texts.docs_history.links if rules.shares else texts.docs_history.no_links,
    )
