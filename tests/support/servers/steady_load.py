"""Clients that ask without a pause, while a test restarts what answers them.

load = SteadyLoad(proxy.client)
await load.more()
...
await load.end()
assert not load.failures
"""

from __future__ import annotations

import asyncio

import httpx
from support.fakes.upstream import USAGE, Answer, Request, chunk, completion, event, streaming
from support.front_door import OWNER, bearer, parse_events, request_body, text_of
from support.waiting import eventually

CHAT = "/api/v1/chat/completions"
CLIENTS = 6
WORDS = ["one ", "two ", "three"]


def steady_answer(request: Request) -> Answer:
    """Answer as the upstream, within the time of a few requests."""
    if not request.json.get("stream"):
        return completion(usage=USAGE)
    words = [event(chunk({"content": word})) for word in WORDS]
    rest = [event(chunk(finish="stop")), event(chunk(usage=USAGE) | {"choices": []})]
    return streaming([*words, *rest, event("[DONE]")], gap_s=0.02)


class SteadyLoad:
    """Clients that ask again and again, streamed and whole, and count what went wrong."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answered = 0
        self.failures: list[str] = []
        self._tasks = [asyncio.create_task(self._ask(bool(n % 2))) for n in range(CLIENTS)]
        self._ends = False

    async def more(self, count: int = 3 * CLIENTS) -> None:
        """Wait for this many more answers."""
        wanted = self.answered + len(self.failures) + count
        await eventually(lambda: self.answered + len(self.failures) >= wanted)

    async def end(self) -> None:
        """Wait until every client has finished its request, and end."""
        self._ends = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, stream: bool) -> None:
        while not self._ends:
            answer = await self._client.post(
                CHAT, json=request_body(stream=stream), headers=bearer(OWNER)
            )
            if answer.status_code != 200:
                self.failures.append(f"{answer.status_code} {answer.text}")
            elif stream and text_of(parse_events(answer.text)) != "".join(WORDS):
                self.failures.append(answer.text)
            else:
                self.answered += 1
