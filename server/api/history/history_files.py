"""Handle `history/files/{id}`: the files of messages and drafts."""

from __future__ import annotations

from server.accounting.admission import MAX_FILE_BYTES
from server.api.history.history_base import HistoryHandler
from server.history.history_records import StoredFile
from server.history.safe_files import file_headers
from server.http.query import refuse_unknown
from workers.errors import InvalidRequest

MAX_NAME_CHARS = 1000


class HistoryFileHandler(HistoryHandler):
    """The content of one file."""

    body_limit = MAX_FILE_BYTES

    async def get(self, file_id: str) -> None:
        """Return the content; everything but pictures comes as a download."""
        file = await self.services.history.file(self.person, self.read_id(file_id, "id"))
        self.reply(200, file.content, file_headers(file.type))

    async def put(self, file_id: str) -> None:
        """Keep the body as a file of a conversation, which may be created afterwards.

        A file whose conversation does not exist after a day is deleted.
        """
        file_id = self.read_id(file_id, "id")
        refuse_unknown(self.request.query_arguments, ("conversation", "name", "type"))
        conversation = self.read_id(self.get_query_argument("conversation", None), "conversation")
        name = self.get_query_argument("name", "", strip=False)
        kind = self.get_query_argument("type", "").lower()
        for param, text in (("name", name), ("type", kind)):
            if len(text) > MAX_NAME_CHARS:
                raise InvalidRequest(
                    f"'{param}' may have at most {MAX_NAME_CHARS} characters.", param=param
                )
        file = StoredFile(name.replace("\0", " "), kind.replace("\0", " "), self.take_body())
        await self.services.history.put_file(
            self.person, file_id, conversation, file, self.rules.quota_bytes
        )
        self.reply(204, b"")
