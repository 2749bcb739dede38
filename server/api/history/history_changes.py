"""Handle `history`, `history/changes` and `history/search`."""

from __future__ import annotations

import re

from msgspec import structs

from server.api.history.history_base import HistoryHandler
from server.history.folding import search_words
from server.history.history_records import ErasedHistory
from server.http.query import read_number, refuse_unknown
from workers.errors import InvalidRequest

CURSOR = re.compile(r"-?[0-9]{1,16}", re.ASCII)
MAX_CONVERSATIONS = 1000
MAX_HITS = 200
SHOWN_HITS = 50
MAX_QUERY_CHARS = 400


class HistoryChangesHandler(HistoryHandler):
    """What has changed in the chat history of the caller.

    Parameters: `since` (a cursor; 0: everything), `open` (the id of a conversation whose changed
    messages are wanted, too), `limit` (1000 by default and at most).
    """

    async def get(self) -> None:
        """Return the conversations that have changed after a cursor, and those that are erased.

        While `more` is true, ask again with the new `cursor`. With `reset`, forget all other
        conversations that are known.
        """
        refuse_unknown(self.request.query_arguments, ("since", "open", "limit"))
        since = self.get_query_argument("since", None) or "0"
        if CURSOR.fullmatch(since) is None:
            raise InvalidRequest("'since' must be the 'cursor' of another answer.", param="since")
        opened = self.get_query_argument("open", None) or None
        if opened is not None:
            self.read_id(opened, "open")
        text = self.get_query_argument("limit", None)
        limit = read_number("limit", text, MAX_CONVERSATIONS) or MAX_CONVERSATIONS
        changes = await self.services.history.changes(self.person, int(since), opened, limit)
        self.reply_json(structs.replace(changes, quota_bytes=self.rules.quota_bytes))


class HistorySearchHandler(HistoryHandler):
    """Search the chat history of the caller.

    Parameters: `q` (words, of which each must occur), `limit` (50 by default, 200 at most).
    """

    async def get(self) -> None:
        """Return the places where all words occur, the conversation changed last first.

        `partial`: there are more than `limit`, or the search took too long and was ended; more
        specific words find the rest.
        """
        refuse_unknown(self.request.query_arguments, ("q", "limit"))
        query = self.get_query_argument("q", "")
        if len(query) > MAX_QUERY_CHARS:
            raise InvalidRequest(f"'q' may have at most {MAX_QUERY_CHARS} characters.", param="q")
        text = self.get_query_argument("limit", None)
        limit = read_number("limit", text, MAX_HITS) or SHOWN_HITS
        words = search_words(query)
        self.reply_json(await self.services.history.search(self.person, words, limit))


class WholeHistoryHandler(HistoryHandler):
    """The whole chat history of the caller."""

    while_off = True

    async def delete(self) -> None:
        """Erase all conversations with their files and links, and all prompts."""
        erased = await self.services.history.erase_all(self.person)
        self.reply_json(ErasedHistory(erased))
