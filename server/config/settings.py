"""Declare every setting: name, type, range, default and one line of documentation.

A section of `roxy.toml` is a Struct here; a setting is a field whose `Meta` carries its range and
its description. `roxy.toml`, the `ROXY_SECTION_NAME` variables, the documentation and `--help` are
all derived from these Structs. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import socket
from typing import Annotated, Literal

from msgspec import Meta, Struct

from server.config.web_settings import Web
from workers.catalog.entries import ModelEntry
from workers.units import DAY_S, HOUR_S, KIB, MIB

WhenDown = Literal["share", "refuse", "allow"]
"""What happens to limits while the store that counts them is away."""


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """Listening address, limits on requests and connections, data directory and TLS."""

    host: Annotated[
        str,
        Meta(min_length=1, description="Address to listen on; 0.0.0.0 or :: for all interfaces."),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 picks a free port.")
    ] = 8080
    data_dir: Annotated[
        str, Meta(min_length=1, description="Directory of the database and the key export.")
    ] = "./data"
    processes: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | Literal["auto"],
        Meta(description='Number of serving processes; "auto": one per usable core.'),
    ] = 1
    node_id: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9._-]{0,64}$",
            description="Name of this node among those that share a store; empty: the host name.",
        ),
    ] = ""
    node_url: Annotated[
        str,
        Meta(
            description="URL at which other nodes reach this one, for answers that are kept here;"
            " empty: they cannot."
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) of reverse proxies whose X-Forwarded-For is trusted."),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins (https://app.example) whose pages may call the API with a key;"
            " empty: none."
        ),
    ] = ()
    max_body_bytes: Annotated[
        int, Meta(ge=KIB, le=KIB * MIB, description="Maximum size of a request body.")
    ] = 32 * MIB
    max_bodies_bytes: Annotated[
        int,
        Meta(
            ge=KIB, le=64 * KIB * MIB, description="Maximum size of all request bodies in memory."
        ),
    ] = 256 * MIB
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Maximum number of client connections; lower if the system's limit of"
            " open files requires it.",
        ),
    ] = 20_000
    max_header_bytes: Annotated[
        int,
        Meta(ge=KIB, le=MIB, description="Maximum size of the request line and headers together."),
    ] = 32 * KIB
    head_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Maximum time to receive a request's headers.")
    ] = 10.0
    body_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Maximum time to receive a request's body.")
    ] = 60.0
    idle_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Time after which an idle connection is closed.")
    ] = 75.0
    drain_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            le=DAY_S,
            description="Time that running answers get to finish when the gateway stops.",
        ),
    ] = 30.0
    stop_delay_s: Annotated[
        float,
        Meta(
            ge=0,
            le=DAY_S,
            description="Time before that in which open connections still get answers and new ones"
            " are refused, so that load balancers send requests elsewhere.",
        ),
    ] = 0.0
    tls_cert: Annotated[
        str, Meta(description="PEM file with the TLS certificate chain; empty: plain HTTP.")
    ] = ""
    tls_key: Annotated[
        str, Meta(description="PEM file with the private key of the certificate.")
    ] = ""
    base_url: Annotated[
        str, Meta(description="Public URL of the gateway; empty: taken from each request.")
    ] = ""

    @property
    def node_name(self) -> str:
        """Return the name of this node: `node_id`, or that of the host."""
        return self.node_id or socket.gethostname()


class Guests(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits for browsers without a key, per address (IPv6: per /64) and for all guests."""

    enabled: Annotated[bool, Meta(description="Allow the web chat without a key.")] = True
    requests_per_minute: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests per minute for one guest.")
    ] = 10
    requests_per_day: Annotated[
        int, Meta(ge=1, le=100_000_000, description="Requests per day for one guest.")
    ] = 100
    concurrent_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="Concurrent requests of one guest.")
    ] = 2
    total_requests_per_minute: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests per minute for all guests together.")
    ] = 60
    total_requests_per_day: Annotated[
        int, Meta(ge=1, le=100_000_000, description="Requests per day for all guests together.")
    ] = 1000
    models: Annotated[
        tuple[str, ...], Meta(description="Ids of the models that guests may use; empty: all.")
    ] = ()
    max_output_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="Maximum length of a guest's answer in tokens, all choices together.",
        ),
    ] = 4096


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    """Maximum length of the queue and of the wait, per model."""

    max_waiting: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Maximum number of waiting requests per model.")
    ] = 512
    max_wait_s: Annotated[float, Meta(gt=0, le=DAY_S, description="Maximum time in the queue.")] = (
        120.0
    )


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    """Time limits and sizes of one answer."""

    heartbeat_s: Annotated[
        float,
        Meta(gt=0, le=HOUR_S, description="Time between the comments that keep a stream open."),
    ] = 10.0
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=HOUR_S, description="Maximum time to connect to the upstream.")
    ] = 10.0
    first_content_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=DAY_S,
            description="Maximum silence of the upstream before the first content of a stream;"
            " while bytes come, three times as long in all. For an answer that is not streamed,"
            " five times as long.",
        ),
    ] = 300.0
    gap_timeout_s: Annotated[
        float,
        Meta(gt=0, le=DAY_S, description="Maximum time between two reads after the first content."),
    ] = 120.0
    tools_gap_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=DAY_S,
            description="The same for requests that offer tools, whose arguments may come in one"
            " piece; the longer of both counts.",
        ),
    ] = 600.0
    total_timeout_s: Annotated[
        float, Meta(ge=0, le=DAY_S, description="Maximum time for a whole answer; 0: no limit.")
    ] = 0.0
    usage_wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="Time that a finished answer waits for its usage after its client has"
            " left; 0: not at all.",
        ),
    ] = 5.0
    write_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Maximum time that a client may read nothing.")
    ] = 60.0
    min_read_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=MIB,
            description="Minimum rate at which a client must read while bytes wait for it; 0: any.",
        ),
    ] = 256
    max_event_bytes: Annotated[
        int,
        Meta(ge=4 * KIB, le=KIB * MIB, description="Maximum size of one event from an upstream."),
    ] = 32 * MIB


class Answers(Struct, frozen=True, forbid_unknown_fields=True):
    """Size and duration of kept answers (`X-Roxy-Keep: true`)."""

    max_answer_bytes: Annotated[
        int,
        Meta(
            ge=128 * KIB,
            le=KIB * MIB,
            description="Maximum size of one kept answer in memory, most of it compressed.",
        ),
    ] = 4 * MIB
    max_total_bytes: Annotated[
        int,
        Meta(ge=MIB, le=64 * KIB * MIB, description="Maximum size of all kept answers together."),
    ] = 64 * MIB
    keep_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Time that an answer is kept after its end.")
    ] = 600.0
    guest_grace_s: Annotated[
        float,
        Meta(gt=0, le=DAY_S, description="Time that a guest's answer continues without a reader."),
    ] = 60.0


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults for new keys."""

    requests_per_minute: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Requests per minute of a new key; 0: no limit.")
    ] = 60


class LimitChecks(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits while Redis, which counts them for several nodes (`ROXY_REDIS_URL`), is away."""

    when_store_is_down: Annotated[
        WhenDown,
        Meta(
            description="share: each node admits its share of the limits on requests, tokens and"
            " concurrency, and refuses guests and what budgets must pay; refuse: every request with"
            " a limit is refused; allow: every request is admitted. What was admitted is counted"
            " afterwards."
        ),
    ] = "share"


class UsageRecords(Struct, frozen=True, forbid_unknown_fields=True):
    """Retention of usage records."""

    retention_days: Annotated[
        int, Meta(ge=1, le=36_500, description="Days to keep the records of single requests.")
    ] = 90


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """The chat history of people who sign in. Guests keep theirs in the browser."""

    enabled: Annotated[
        bool,
        Meta(
            description="Keep the conversations of people who sign in on the server; false: in the"
            " browser. What is on the server then stays, and its people can download or delete it."
        ),
    ] = True
    quota_bytes: Annotated[
        int,
        Meta(ge=MIB, le=KIB * KIB * MIB, description="Maximum size of one person's chat history."),
    ] = 256 * MIB
    retention_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days after their last change when conversations are erased; 0: never.",
        ),
    ] = 0
    shares: Annotated[
        bool,
        Meta(description="Allow read-only links to conversations, which need no sign-in."),
    ] = False


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """Content and format of the log."""

    access: Annotated[bool, Meta(description="Log a line for each request.")] = True
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Minimum log level.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="Log format: plain text or JSON.")
    ] = "text"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The resolved configuration. Secrets come from the environment; `repr` hides them.

    `path` is the file that was read, "" if there was none. `redis_url` "": counters in memory.
    """

    server: Server = Server()
    guests: Guests = Guests()
    web: Web = Web()
    queue: Queue = Queue()
    stream: Stream = Stream()
    answers: Answers = Answers()
    keys: Keys = Keys()
    limits: LimitChecks = LimitChecks()
    usage: UsageRecords = UsageRecords()
    history: History = History()
    log: Log = Log()
    models: tuple[ModelEntry, ...] = ()
    demo: bool = False
    admin_api_key: str = ""
    redis_url: str = ""
    database_url: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Return the sections without the secrets."""
        shown = (name for name in self.__struct_fields__ if name not in SECRET_VARIABLES)
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return the same fields for `rich` and other pretty printers."""
        return [("path", self.path), *((name, getattr(self, name)) for name in SECTIONS)]


SECRET_VARIABLES = ("admin_api_key", "database_url", "redis_url")
"""The fields of Config that are secrets, or hold a password."""

SECTIONS: dict[str, type[Struct]] = {
    "server": Server,
    "guests": Guests,
    "web": Web,
    "queue": Queue,
    "stream": Stream,
    "answers": Answers,
    "keys": Keys,
    "limits": LimitChecks,
    "usage": UsageRecords,
    "history": History,
    "log": Log,
}
"""The tables of `roxy.toml`, in the order of the documentation."""
