"""The base of handlers with event streams: the head, the reply, and following a kept answer."""

from __future__ import annotations

from server.answers.reply import Followed, StreamReply
from server.api.base import BaseHandler
from server.http.answer_head import STREAM_HEAD
from workers.errors import GatewayError
from workers.run.answer_log import Attachment

UPDATES_HEADER = "X-Roxy-Queue-Updates"
ATTACHED = b": attached\n\n"


class StreamHandler(BaseHandler):
    """A handler whose answer may be an event stream."""

    attachment: Attachment | None = None

    def on_connection_close(self) -> None:
        """Detach from a kept answer, which continues."""
        super().on_connection_close()
        if self.attachment is not None:
            self.attachment.leave()

    def asks_for(self, header: str) -> bool:
        """Return whether the client has switched an option on with a header."""
        return self.request.headers.get(header, "").lower() in ("true", "1")

    def open_reply(self, source: Followed) -> StreamReply:
        """Return the stream that follows a job, or an attachment to its log."""
        assert self.request.connection is not None
        return StreamReply(
            self.request.connection,
            source,
            self._stream_head,
            self._end_stream,
            chunked=self.request.version == "HTTP/1.1",
            heartbeat_s=self.services.config.stream.heartbeat_s,
            updates=self.asks_for(UPDATES_HEADER),
        )

    async def follow(self, attachment: Attachment, *, first: bytes = b"") -> None:
        """Send a kept answer to the client until it ends or the client leaves.

        With `first`, the stream begins with it at once, and errors become events.
        """
        self.attachment = attachment
        reply = self.open_reply(attachment)
        if first:
            reply.write(first)
        attachment.begin(reply)
        await reply.done

    def send_head(self) -> None:
        """Answer HEAD: send the head of a stream and nothing else."""
        assert self.request.connection is not None
        self.request.connection.write(self._stream_head() + b"\r\n")
        self.lifecycle.end_answer()

    def _end_stream(self, error: GatewayError | None) -> None:
        if error is not None:  # sent as an event after a head with status 200: only the log tells
            self.error_code = error.own_code
        self.lifecycle.end_answer()

    def _stream_head(self) -> bytes:
        return self.begin_answer(200, {}) + STREAM_HEAD
