"""The page of a read-only link, which needs no sign-in and sets no cookie, and its pictures."""

from __future__ import annotations

from datetime import UTC, datetime

from server.history.history_records import SharedSnapshot
from server.history.safe_files import file_headers
from server.identity.authentication import OWNER_SCOPE
from webui.shell.pages import TEMPLATES, PageHandler
from workers.errors import NotFound

UNLISTED = {"X-Robots-Tag": "noindex, nofollow, noarchive"}
SCRIPTS = (
    "js/shell/page.js",
    "js/chat/markdown/blocks.js",
    "js/chat/markdown/code.js",
    "js/chat/markdown/entities.js",
    "js/chat/markdown/markdown.js",
    "js/chat/markdown/math.js",
    "js/chat/turns/thoughts.js",
    "vendor/marked.js",
)
"""What `share/shared.js` imports: the browser fetches these at once."""


class SharedHandler(PageHandler):
    """What belongs to a link. All answers are 404 once it has ended."""

    translated = True
    script_texts = ("markdown",)

    def add_headers(self, headers: dict[str, str]) -> None:
        """Keep search engines away, from errors too."""
        super().add_headers(headers)
        headers.update(UNLISTED)

    def logged_path(self) -> str:
        """Return the path without the token, which is a secret."""
        return "/s/***"

    async def find_snapshot(self, token: str) -> SharedSnapshot:
        """Return what a link shows. Raises NotFound."""
        rules = self.services.config.history
        if rules.enabled and rules.shares:
            found = await self.services.history.shared(token)
            if found is not None and await self._is_active(found[0]):
                return found[1]
        raise NotFound("This link does not exist, or it was turned off.")

    async def _is_active(self, person: str) -> bool:
        """Return whether the links of a person may be read: not those of a key that has ended."""
        if person == OWNER_SCOPE:
            return True
        key = await self.services.store.find_key(person)
        return key is not None and key.status == "active"


class SharePageHandler(SharedHandler):
    """The page at `/s/TOKEN`."""

    async def get(self, token: str) -> None:
        """Show the copy; texts are readable before the scripts have loaded, and without them."""
        snapshot = await self.find_snapshot(token)
        catalog = self.services.catalog.models
        names = {
            message.model: catalog[message.model].name
            for message in snapshot.messages
            if message.model in catalog
        }
        body = TEMPLATES.load("share.html").generate(
            **self.shell({}),
            scripts=SCRIPTS,
            token=token,
            snapshot=snapshot,
            names=names,
            day=datetime.fromtimestamp(snapshot.created / 1000, UTC).date().isoformat(),
        )
        self.reply(200, body)


class ShareFileHandler(SharedHandler):
    """A picture of a link."""

    async def get(self, token: str, file_id: str) -> None:
        """Return the picture."""
        await self.find_snapshot(token)
        file = await self.services.history.shared_file(token, file_id)
        if file is None:
            raise NotFound("There is no such picture.")
        self.reply(200, file.content, file_headers(file.type) | UNLISTED)
