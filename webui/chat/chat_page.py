"""Serve the chat page; it is usable before its scripts have loaded."""

from __future__ import annotations

from typing import Any

import msgspec

from server.accounting.admission import MAX_FILE_BYTES
from server.config.web_settings import Suggestion, Web
from server.identity.authentication import Principal
from server.shapes.key_object import remaining
from webui.chat.title_model import choose_title_model
from webui.shell.health_words import describe_card, sees
from webui.shell.model_cards import model_card
from webui.shell.pages import PageHandler, who
from workers.units import MIB

MAX_CARDS, MAX_SUGGESTIONS = 4, 8
PAGE = 1000
"""How many conversations are counted at once."""

SCRIPTS = (
    "js/shell/page.js",
    "js/chat/composer/composer.js",
    "js/chat/header.js",
    "js/chat/limits.js",
    "js/chat/state/records.js",
    "js/chat/state/chat.js",
    "js/chat/state/conversation.js",
    "js/chat/state/store.js",
)
"""What `chat/main.js` imports: the browser fetches these at once, not one after the other."""
CONVERSATION_SCRIPTS = (
    "js/chat/markdown/blocks.js",
    "js/chat/markdown/code.js",
    "js/chat/markdown/copying.js",
    "js/chat/markdown/direction.js",
    "js/chat/markdown/entities.js",
    "js/chat/markdown/inline.js",
    "js/chat/markdown/lexing/block_rules.js",
    "js/chat/markdown/lexing/emphasis.js",
    "js/chat/markdown/lexing/inline_rules.js",
    "js/chat/markdown/lexing/lexing.js",
    "js/chat/markdown/markdown.js",
    "js/chat/markdown/math.js",
    "js/chat/markdown/question_text.js",
    "js/chat/state/answer.js",
    "js/chat/state/answers.js",
    "js/chat/state/problems.js",
    "js/chat/state/request.js",
    "js/chat/transcript/follower.js",
    "js/chat/transcript/pair.js",
    "js/chat/transcript/row.js",
    "js/chat/transcript/transcript.js",
    "js/chat/transcript/words.js",
    "js/chat/turns/joint.js",
    "js/chat/turns/thoughts.js",
    "js/shell/answer_stream.js",
    "js/shell/api.js",
    "js/shell/clipboard.js",
    "js/shell/dialog.js",
    "vendor/marked.js",
)
"""What shows a conversation; a new chat loads these when the first letter is typed."""
HISTORY_SCRIPTS = (
    "js/chat/history/connection.js",
    "js/chat/history/open_saves.js",
    "js/chat/history/outbox.js",
    "js/chat/history/remote.js",
    "js/chat/history/sender.js",
    "js/chat/history/server_files.js",
    "js/chat/history/server_settings.js",
    "js/chat/history/upload.js",
    "js/chat/history/view.js",
    "js/chat/history/wire.js",
    "js/chat/state/elsewhere.js",
    "js/chat/state/problems.js",
    "js/shell/api.js",
)
"""What connects people who have signed in to their history; a new chat can be written before."""


class ChatPageHandler(PageHandler):
    """The chat at `/`, and at `/c/ID` for a conversation stored in the browser."""

    section = "chat"
    translated = True
    script_texts = (
        "chat",
        "composer",
        "answers",
        "problems",
        "dialogs",
        "transcript",
        "turns",
        "sidebar",
        "history",
        "prompts",
        "titles",
        "markdown",
    )

    async def get(self, conversation: str = "") -> None:
        """Show the chat; a browser without a cookie becomes a guest if guests are enabled."""
        await self.find_ended()
        models, web, texts = self._models(), self.services.config.web, self.language().texts
        usable = [model for model in models if model["available"]]
        history = await self._about_history()
        scripts = SCRIPTS + (CONVERSATION_SCRIPTS if conversation else ())
        if history["place"] == "server" and conversation:
            scripts += HISTORY_SCRIPTS
        self.show(
            "chat.html",
            scripts=tuple(dict.fromkeys(scripts)),
            boot=msgspec.json.encode(await self._boot(models, history)).decode(),
            fresh=not conversation,
            greeting=texts.chat_page.welcome if web.welcome == Web().welcome else web.welcome,
            cards=[model_card(model, self.language()) for model in usable[:MAX_CARDS]],
            more=len(models) > MAX_CARDS,
            has_demo=any(model["demo"] for model in usable),
            is_demo=all(model["demo"] for model in usable),
            missing=sorted({name for model in models for name in model["missing"]}),
            prompts=example_prompts(texts)
            if web.prompts is None
            else web.prompts[:MAX_SUGGESTIONS],
            max_file=f"{MAX_FILE_BYTES // MIB} MB",
            base_url=self.base_url(),
            welcome=self._is_welcome(),
        )

    def _is_welcome(self) -> bool:
        return self.visitor() is not None or self.services.config.guests.enabled

    async def _boot(self, models: list[dict[str, Any]], history: dict[str, Any]) -> dict[str, Any]:
        return {
            "history": history,
            "visitor": await self._about_visitor(),
            "models": models,
            "title_model": self._title_model(models),
            "prompts": self.services.config.web.prompts or (),
            "max_file_bytes": MAX_FILE_BYTES,
            "max_body_bytes": self.services.config.server.max_body_bytes,
        }

    def _title_model(self, models: list[dict[str, Any]]) -> str:
        """Return the model that writes titles, "" for none: guests have no titles by a model."""
        visitor = self.visitor()
        is_known = visitor is not None and visitor.kind != "guest"
        return choose_title_model(models) if is_known and self.services.config.web.titles else ""

    async def _about_history(self) -> dict[str, Any]:
        """Return where the visitor's conversations are kept, and under which rules.

        `left`: how many are on the server from before the history was switched off.
        """
        rules = self.services.config.history
        visitor, person = self.visitor(), self.person()
        return {
            "place": "server" if person and rules.enabled else "browser",
            "person": person,
            "quota_bytes": rules.quota_bytes,
            "retention_days": rules.retention_days,
            "shares": bool(person) and rules.enabled and rules.shares,
            "left": 0
            if visitor is None or rules.enabled
            else await self._count_kept(visitor.scope),
        }

    async def _count_kept(self, person: str) -> int:
        count, cursor, more = 0, 0, True
        while more:
            page = await self.services.history.changes(person, cursor, None, PAGE)
            cursor, more = page.cursor, page.more
            count += len(page.conversations)
        return count

    def _models(self) -> list[dict[str, Any]]:
        """Return the models that the visitor sees: the default one first, unusable ones last."""
        visitor = self.visitor() or Principal("guest", "")
        models = [
            describe_card(
                model, self.services.health, self.language(), visitor, self.services.admission
            )
            for model in self.services.catalog
            if sees(visitor, model) and self.services.admission.may_use(visitor, model.id)
        ]
        default = self.services.config.web.default_model
        return sorted(models, key=lambda model: (not model["available"], model["id"] != default))

    async def _about_visitor(self) -> dict[str, Any]:
        visitor, texts = self.visitor(), self.language().texts
        if visitor is None and not self._is_welcome():
            return {"kind": "nobody", "name": who(None, texts), "remaining": None}
        if visitor is None:
            visitor = Principal("guest", self.client_scope())
        left = None
        if not visitor.is_owner:
            left = remaining(await self.services.admission.standing(visitor))
        return {"kind": visitor.kind, "name": who(visitor, texts), "remaining": left}


def example_prompts(texts: Any) -> tuple[Suggestion, ...]:
    """Return the prompts of a server whose owner has set none."""
    return (
        Suggestion(texts.chat_page.explain, texts.chat_page.explain_prompt),
        Suggestion(texts.chat_page.compare, texts.chat_page.compare_prompt),
        Suggestion(texts.chat_page.write, texts.chat_page.write_prompt),
    )
