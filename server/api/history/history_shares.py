"""Handle `history/shares`: read-only links to conversations and answers."""

from __future__ import annotations

import msgspec

from server.api.history.history_base import HistoryHandler
from server.history.history_records import RecordId, ShareLink
from workers.errors import Forbidden, NotFound


class NewShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to share: a conversation as it is shown now, or one message of it."""

    conversation: RecordId
    message: RecordId | None = None


class ShareObject(msgspec.Struct, frozen=True):
    """A read-only link. `created` is in milliseconds since 1970."""

    id: str
    url: str
    title: str
    created: int
    conversation: str
    message: str | None


class ShareObjects(msgspec.Struct, frozen=True):
    """The links of a person, newest first."""

    data: list[ShareObject]


NEW_SHARE = msgspec.json.Decoder(NewShare)


class SharesHandler(HistoryHandler):
    """The read-only links of the caller."""

    async def get(self) -> None:
        """List the links, newest first."""
        links = await self.services.history.shares(self.person)
        self.reply_json(ShareObjects([self._describe(link) for link in links]))

    async def post(self) -> None:
        """Make a link to a copy of what the conversation shows now; later messages are not in it.

        Whoever has the link can read it without signing in, until it is deleted.
        """
        if not self.rules.shares:
            raise Forbidden("Links are turned off on this server.", code="shares_off")
        new = self.read_body(NEW_SHARE)
        link = await self.services.history.share(
            self.person, new.conversation, new.message, self.rules.quota_bytes
        )
        self.reply_json(self._describe(link), 201)

    def _describe(self, link: ShareLink) -> ShareObject:
        return ShareObject(
            link.id,
            f"{self.base_url()}/s/{link.token}",
            link.title,
            link.created,
            link.conversation,
            link.message,
        )


class ShareHandler(HistoryHandler):
    """One read-only link."""

    async def delete(self, link: str) -> None:
        """Delete the link with its copy: readers get 404 at once."""
        if not await self.services.history.unshare(self.person, self.read_id(link, "id")):
            raise NotFound("There is no such link.", code="share_not_found")
        self.reply(204, b"")
