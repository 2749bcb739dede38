"""The base of handlers with event streams: the head, the reply, and following a kept answer."""

from __future__ import annotations

import logging

from server.answers.passing import ClientLeft, PassedStream, RequestOrigin, timeout_of
from server.answers.passing_marks import MAX_HOPS, PassedOn
from server.answers.reply import Followed, StreamReply
from server.api.base import BaseHandler
from server.http.answer_head import STREAM_HEAD
from server.identity.client_addresses import UNKNOWN, client_address, guest_scope, parse_address
from workers.errors import GatewayError, NodeUnavailable
from workers.run.answer_log import Attachment

log = logging.getLogger("roxy.nodes")

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


class PassableHandler(StreamHandler):
    """A handler whose request another process of this gateway may have to answer.

    A request that was passed on here is authenticated like any other; its mark says from which
    client it came.
    """

    passed: PassedOn | None = None
    _passing: PassedStream | None = None

    def refuse_head(self) -> None:
        """Read the mark of a request that was passed on, then check the head."""
        request = self.request
        target = request.uri or ""
        self.passed = self.services.passing.marks.read(self.method, target, request.headers)
        if self.passed is not None and self.passed.trusted:
            request.headers["Host"] = self.passed.host
        super().refuse_head()

    def client_scope(self) -> str:
        """Return the scope of the client, also of one that another process has passed on."""
        if self.passed is None or not self.passed.trusted:
            return super().client_scope()
        return guest_scope(parse_address(self.passed.client) or UNKNOWN)

    def is_secure(self) -> bool:
        """Return whether the client uses TLS, to the process that it has asked."""
        return super().is_secure() or (self.passed is not None and self.passed.secure)

    def on_connection_close(self) -> None:
        """Stop the answer of the other process."""
        super().on_connection_close()
        if self._passing is not None:
            self._passing.stop()

    async def pass_on(self, job_id: str) -> bool:
        """Pass a request for a job on if another process has it; return whether that was done.

        Raises NodeUnavailable.
        """
        services = self.services
        if job_id in services.engine.jobs or job_id in services.answers:
            return False
        asked = self.asked()
        peer = None
        if asked.hops < MAX_HOPS:
            peer = await services.peers.find(job_id, nodes=asked.hops == 0)
        if peer is None:
            return False
        target = self.request.uri or ""
        mark = asked.passed_on()
        exchange = services.passing.exchange(peer, self.method, target, asked.headers, mark)
        self._passing = PassedStream(exchange, self, timeout_of(peer))
        try:
            await self._passing.carry()
        except ClientLeft:
            pass
        except NodeUnavailable as error:
            log.info("%s does not answer for %s: %s", peer.url, job_id, error.__cause__)
            if not peer.sibling:
                raise
            return False  # that process has ended, and its answers with it
        return True

    def asked(self) -> RequestOrigin:
        """Return what other processes need to know of this request."""
        request = self.request
        return RequestOrigin(
            request.headers,
            str(client_address(request.remote_ip or "", request.headers, self.services.proxies))
            if self.passed is None
            else self.passed.client,
            request.headers.get("Host", ""),
            self.is_secure(),
            self.passed.hops if self.passed is not None else 0,
        )

    def end_passed(self, error: GatewayError | None) -> None:
        """End an answer of another process; `error` was sent in it."""
        self._end_stream(error)
