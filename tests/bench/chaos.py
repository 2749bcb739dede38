"""Break two nodes and their stores at random under load, and count what was lost.

    python tests/bench/chaos.py --minutes 10 --seed 7

Two nodes behind nginx, with PostgreSQL and Valkey, on hosts of their own (network namespaces, or
ports where none can be made). Clients ask without a pause, keys are created and revoked, and every
few seconds something is killed, hangs, restarts, loses its data or its network. The same seed
breaks the same things in the same order. At the end all is healed, and these must hold:

- every key whose creation was answered exists, unless it was revoked; every revoked key is refused;
- no key got more than its limits, but for what `limits.when_store_is_down = "share"` says: of
  concurrent requests each node admits its share, so that at most those which ran at the one and the
  shares of all others run; more only where Valkey has lost its data;
- the usage on record is what the upstream billed, less at most what nodes that were killed had not
  saved yet: their running requests and their last second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # not inside pytest
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from support.fakes.upstream import (  # noqa: E402
    USAGE,
    Answer,
    Pause,
    Request,
    chunk,
    completion,
    event,
    streaming,
)
from support.front_door import OWNER, bearer  # noqa: E402
from support.servers.cluster import Cluster, Node  # noqa: E402
from support.servers.redis_outages import Outage, outages_of  # noqa: E402

CLIENTS = 8
RATE = 30
"""The limit of the limited key, in requests per minute."""
PLACES = 2
"""Its concurrent requests."""
BUDGETED = 300
"""How many answers the budget of the budgeted key pays for."""
COST_MICROUSD = USAGE["prompt_tokens"] + 2 * USAGE["completion_tokens"]
SHARE = 1
"""How many of them each of the two nodes admits while Redis is away."""
UNSAVED_S = 1.0
"""Usage of this time may be lost when a node is killed."""
HUNG_S = 2.0
HEAL_WITHIN_S = 60.0
PAUSE_S = 0.05
"""Between the requests of one client, so that two cores serve both sides."""


@dataclass
class Figures:
    """What happened."""

    statuses: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    admitted: Counter[str] = field(default_factory=Counter)
    """Requests that the upstream got, by user."""
    crowds: list[Sequence[float]] = field(default_factory=list)
    """When the requests of the limited key came that the upstream had at the same time, each time
    that they were more than its places; in Unix seconds."""
    slowest_s: float = 0.0
    unsaved_bound: int = 0
    """How many requests killed nodes may not have saved."""
    redis_away: int = 0
    emptied: list[tuple[float, float]] = field(default_factory=list)
    """When Redis lost its data and when it was there again; in Unix seconds."""
    seconds: float = 0.0


class Leaving(asyncio.Event):
    """Counts an answer as ended before its last bytes: who reads them may ask again at once."""

    def __init__(self, request: Request, running: dict[Request, float]) -> None:
        super().__init__()
        self._request = request
        self._running = running

    async def wait(self) -> Literal[True]:
        """Do not wait."""
        self._running.pop(self._request, None)
        return True


class Load:
    """Clients that ask through the balancer, and the owner who creates and revokes keys."""

    def __init__(self, cluster: Cluster, figures: Figures, dice: random.Random) -> None:
        self._cluster = cluster
        self._figures = figures
        self._dice = dice
        self.secrets: dict[str, str] = {}
        self.created: dict[str, str] = {}
        self.revoked: dict[str, str] = {}
        self.unsure: set[str] = set()
        """Keys whose revocation was not answered."""
        self._running = 0
        self._recent: deque[float] = deque()
        self._ends = asyncio.Event()
        self._upstream_runs: dict[Request, float] = {}

    async def prepare(self) -> None:
        """Create the keys that the clients use, and set what the upstream answers."""
        limits: dict[str, dict[str, Any]] = {
            "free": {},
            "limited": {"requests_per_minute": RATE, "concurrent_requests": PLACES},
            "budgeted": {
                "budget_microusd": BUDGETED * COST_MICROUSD,
                "budget_period": "total",
            },
        }
        for user, limit in limits.items():
            unlimited = {"requests_per_minute": None} if "requests_per_minute" not in limit else {}
            made = await self._cluster.mint(user, **(unlimited | limit))
            self.secrets[user] = made["key"]
            self.created[made["id"]] = made["key"]
        self._cluster.upstream.plan(self._answer)

    def unsaved(self) -> int:
        """Return how many requests a node that is killed now may lose."""
        now = time.monotonic()
        while self._recent and self._recent[0] < now - UNSAVED_S:
            self._recent.popleft()
        return self._running + len(self._recent)

    def start(self) -> list[asyncio.Task[None]]:
        """Start the clients and the owner."""
        users = ["free", "limited", "budgeted"]
        clients = [self._client(users[n % 3], stream=n % 2 == 0) for n in range(CLIENTS)]
        return [asyncio.create_task(one) for one in (*clients, self._owner())]

    def end(self) -> None:
        """Have everybody stop after the request of the moment."""
        self._ends.set()

    def _answer(self, request: Request) -> Answer:
        user = request.json.get("user", "")
        self._figures.admitted[user] += 1
        if user == "limited":
            self._note_at_once(request)
        ends = Pause(Leaving(request, self._upstream_runs))
        if not request.json.get("stream"):
            whole = completion(usage=USAGE)
            return replace(whole, pieces=[ends, *whole.pieces])
        words = [event(chunk({"content": word})) for word in ("one ", "two ", "three")]
        rest = [event(chunk(finish="stop")), event(chunk(usage=USAGE) | {"choices": []})]
        return streaming([*words, *rest, ends, event("[DONE]")], gap_s=0.02)

    def _note_at_once(self, request: Request) -> None:
        """Note the requests of the limited key that run upstream, with this one."""
        runs = self._upstream_runs
        for one in [one for one in runs if one.left.is_set()]:
            del runs[one]
        runs[request] = time.time()
        if len(runs) > PLACES:
            self._figures.crowds.append(tuple(runs.values()))

    async def _client(self, user: str, *, stream: bool) -> None:
        while not self._ends.is_set():
            began = time.monotonic()
            self._running += 1
            try:
                status = await self._ask(user, stream=stream)
            finally:
                self._running -= 1
            self._recent.append(time.monotonic())
            self._figures.statuses[status] += 1
            self._figures.slowest_s = max(self._figures.slowest_s, time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, user: str, *, stream: bool) -> str:
        try:
            answer = await self._cluster.chat(
                self.secrets[user], user, stream=stream, max_tokens=USAGE["completion_tokens"]
            )
        except httpx.HTTPError as error:
            return f"{user} {type(error).__name__}"
        if answer.status_code == 200 and stream and "[DONE]" not in answer.text:
            return f"{user} cut"
        code = "" if answer.status_code == 200 else answer.json()["error"]["code"]
        return f"{user} {answer.status_code} {code}".rstrip()

    async def _owner(self) -> None:
        """Create keys, and revoke some of them; note what was answered."""
        client, headers = self._cluster.client, bearer(OWNER)
        while not self._ends.is_set():
            with contextlib.suppress(httpx.HTTPError):
                made = await client.post("/api/v1/keys", json={"name": "chaos"}, headers=headers)
                self._figures.statuses[f"create {made.status_code}"] += 1
                if made.status_code == 201:
                    key = made.json()
                    self.created[key["id"]] = key["key"]
                    if self._dice.random() < 0.3:
                        self.unsure.add(key["id"])
                        gone = await client.delete(f"/api/v1/keys/{key['id']}", headers=headers)
                        self._figures.statuses[f"revoke {gone.status_code}"] += 1
                        if gone.status_code == 200:
                            self.revoked[key["id"]] = key["key"]
            await asyncio.sleep(0.2)


class Chaos:
    """Breaks one thing after the other, and mends each before the next."""

    def __init__(
        self,
        cluster: Cluster,
        load: Load,
        figures: Figures,
        dice: random.Random,
        path: Path,
    ) -> None:
        self._cluster = cluster
        self._load = load
        self._figures = figures
        self._dice = dice
        self._path = path
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "node killed": self._node_killed,
            "node hung": self._node_hung,
            "node restarted": self._node_restarted,
            "Valkey killed": self._valkey_killed,
            "Valkey hung": self._valkey_hung,
            "Valkey empty": self._valkey_empty,
            "PostgreSQL killed": self._postgres_killed,
            "PostgreSQL hung": self._postgres_hung,
        }
        if cluster.hosts.kind == "namespaces":
            self._kinds["node parted"] = self._node_parted

    async def run(self, seconds: float, only: Collection[str]) -> None:
        """Break things until the time is over; each kind once before any comes again."""
        kinds = sorted(set(only) & set(self._kinds) or self._kinds)
        ends = time.monotonic() + seconds
        left: list[str] = []
        while time.monotonic() < ends:
            left = left or self._dice.sample(kinds, len(kinds))
            kind = left.pop()
            self._figures.broken[kind] += 1
            await self._kinds[kind]()
            await asyncio.sleep(self._dice.uniform(0.2, 1.5))

    def _node(self) -> Node:
        return self._dice.choice(self._cluster.nodes)

    async def _node_killed(self) -> None:
        node = self._node()
        self._figures.unsaved_bound += self._load.unsaved()
        await node.kill()
        await asyncio.sleep(self._dice.uniform(0, 1))
        await node.start()

    async def _node_hung(self) -> None:
        node = self._node()
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(HUNG_S)
        node.signal(signal.SIGCONT)

    async def _node_restarted(self) -> None:
        node = self._node()
        assert await node.stop() == 0, node.log
        await node.start()

    async def _node_parted(self) -> None:
        node = self._node()
        self._figures.redis_away += 1
        await self._cluster.hosts.part(node.host)
        await asyncio.sleep(HUNG_S)
        await self._cluster.hosts.heal(node.host)

    async def _valkey_killed(self) -> None:
        self._figures.redis_away += 1
        await self._cluster.redis.kill()
        await asyncio.sleep(self._dice.uniform(0, HUNG_S))
        await self._cluster.redis.start()

    async def _valkey_hung(self) -> None:
        self._figures.redis_away += 1
        self._cluster.redis.hang()
        await asyncio.sleep(HUNG_S)
        self._cluster.redis.go_on()

    async def _valkey_empty(self) -> None:
        self._figures.redis_away += 1
        began = time.time()
        await self._cluster.redis.kill()
        await asyncio.to_thread(shutil.rmtree, self._path / "valkey" / "appendonlydir")
        await self._cluster.redis.start()
        self._figures.emptied.append((began, time.time()))

    async def _postgres_killed(self) -> None:
        await asyncio.to_thread(self._cluster.postgres.kill)
        await asyncio.sleep(self._dice.uniform(0, HUNG_S))
        await asyncio.to_thread(self._cluster.postgres.start)

    async def _postgres_hung(self) -> None:
        await asyncio.to_thread(self._cluster.postgres.hang)
        await asyncio.sleep(HUNG_S)
        await asyncio.to_thread(self._cluster.postgres.go_on)


async def run(
    path: Path, seconds: float, seed: int, only: Collection[str] = ()
) -> tuple[Figures, list[str]]:
    """Run everything in `path`; return the figures, and what should not have happened.

    `only`: the kinds of trouble; all if empty.
    """
    figures = Figures()
    async with Cluster.started(path, patient=False) as cluster:
        print(f"hosts: {cluster.hosts.kind}, seed {seed}", flush=True)
        # Each part has dice of its own, so that the load does not change what breaks.
        load = Load(cluster, figures, random.Random(seed + 1))
        await load.prepare()
        began = time.monotonic()
        tasks = load.start()
        try:
            chaos = Chaos(cluster, load, figures, random.Random(seed), path)
            await chaos.run(seconds, only)
        finally:
            load.end()
            await asyncio.gather(*tasks)
        figures.seconds = time.monotonic() - began
        faults = await _faults(cluster, load, figures)
    return figures, faults


async def _faults(cluster: Cluster, load: Load, figures: Figures) -> list[str]:
    """Wait until all is healed, and hold what must hold."""
    faults = []
    for node in cluster.nodes:
        if not await _within(HEAL_WITHIN_S, partial(_healthy, cluster, node)):
            faults += [f"{node.name} is not healthy again: {node.log[-2000:]}"]
        errors = "".join([*node.logs, node.log]).count("Traceback (most recent call last)")
        if errors:
            faults += [f"{node.name} logs {errors} tracebacks"]
    faults += await _keys(cluster, load)
    return (
        faults
        + await _money(cluster, figures)
        + _limits(figures, outages_of(cluster.nodes, time.time()))
    )


async def _keys(cluster: Cluster, load: Load) -> list[str]:
    """Ask both nodes about every key whose creation was answered."""
    faults = []
    for key_id, secret in load.created.items():
        wanted = {200}
        if key_id in load.unsure:
            # Many wrong keys of one address are answered with 429: refused as well.
            wanted = {401, 429} if key_id in load.revoked else {200, 401, 429}
        for node in cluster.nodes:
            status = (await cluster.ask_node(node, "/api/v1/key", secret)).status_code
            if status not in wanted:
                state = "revoked" if key_id in load.revoked else "created"
                faults.append(f"{node.name} answers {status} for a key that was {state}")
    print(f"keys: {len(load.created)} created, {len(load.revoked)} revoked", flush=True)
    return faults


async def _money(cluster: Cluster, figures: Figures) -> list[str]:
    """Compare the usage on record with what the upstream billed."""
    billed = sum(figures.admitted.values()) * USAGE["completion_tokens"]
    recorded = 0

    async def complete() -> bool:
        nonlocal recorded
        recorded = sum(row["completion_tokens"] for row in await cluster.usage())
        return recorded >= billed

    async def enough() -> bool:
        await complete()
        return billed - recorded <= figures.unsaved_bound * USAGE["completion_tokens"]

    await _within(HEAL_WITHIN_S, enough)
    await _within(5.0, complete)
    lost = (billed - recorded) / USAGE["completion_tokens"]
    print(
        f"usage: billed {billed} tokens, recorded {recorded}: {lost:g} requests lost,"
        f" at most {figures.unsaved_bound} may be",
        flush=True,
    )
    if not 0 <= lost <= figures.unsaved_bound:
        return [f"usage: {lost:g} requests lost, at most {figures.unsaved_bound} may be"]
    return []


def _limits(figures: Figures, outages: list[Outage]) -> list[str]:
    """Compare what the upstream got with the limits.

    A busy machine makes nodes find Redis away for a moment that nothing has broken.
    """
    steady = RATE + RATE * figures.seconds / 60
    # While Redis is away, each node admits its share of what is left as it knows it.
    shares = max(RATE * figures.redis_away, RATE / 2 * len(outages))
    most = {
        "limited": steady + shares,
        "budgeted": BUDGETED + len(figures.emptied) * figures.unsaved_bound,
    }
    found = at_once(figures, outages)
    print(
        f"limited: {figures.admitted['limited']} admitted, {steady:.0f} without faults,"
        f" at most {most['limited']:.0f}; at once {dict(found)} of {PLACES};"
        f" budgeted: {figures.admitted['budgeted']} of {BUDGETED}",
        flush=True,
    )
    faults = [
        f"{user}: {figures.admitted[user]} admitted, at most {limit:.0f} may be"
        for user, limit in most.items()
        if figures.admitted[user] > limit
    ]
    # Away: one node had all, and the other admits its share. Emptied: Redis learns of the requests
    # that run when their node is back, and may have admitted as many of the other node before.
    allowed = {"reached": PLACES, "away": PLACES + SHARE, "emptied": 2 * PLACES}
    return faults + [
        f"limited: {count} at once while Redis is {word}, at most {allowed[word]} may be"
        for word, count in found.items()
        if count > allowed[word]
    ]


def at_once(figures: Figures, outages: list[Outage]) -> Counter[str]:
    """Return the most requests of the limited key at the same time by the state of Redis.

    It is "reached" where no node found it away when one of them was admitted, else "away", or
    "emptied" when it had lost its data then.
    """
    most: Counter[str] = Counter()
    for arrivals in figures.crowds:
        meanwhile = [one for one in outages if any(map(one.has, arrivals))]
        emptied = any(one.overlaps(span) for one in meanwhile for span in figures.emptied)
        word = "emptied" if emptied else "away" if meanwhile else "reached"
        most[word] = max(most[word], len(arrivals))
    return most


async def _healthy(cluster: Cluster, node: Node) -> bool:
    answer = await cluster.ask_node(node, "/readyz")
    return answer.status_code == 200 and answer.json() == {"status": "ok"}


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether the condition comes to hold in this time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            if await condition():
                return True
        await asyncio.sleep(0.1)
    return False


def report(figures: Figures, faults: list[str]) -> str:
    """Write the figures for people."""
    lines = [f"{figures.seconds:.0f} s, slowest answer {figures.slowest_s:.2f} s"]
    lines += [f"  {name}: {count}" for name, count in sorted(figures.broken.items())]
    lines += [f"  {name}: {count}" for name, count in sorted(figures.statuses.items())]
    lines += [f"FAULT: {fault}" for fault in faults] or ["no fault"]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; the exit code is 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", action="append", default=[], help="a kind of trouble")
    options = parser.parse_args()
    # Whoever ends it, the namespaces are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as directory:
        figures, faults = asyncio.run(
            run(Path(directory), options.minutes * 60, options.seed, options.only)
        )
    print(report(figures, faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
