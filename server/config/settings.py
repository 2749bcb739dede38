"""Every setting: its name, type, range, default and one line of documentation, as data.

A section of `roxy.toml` is a Struct here; a setting is a field whose `Meta` carries its range and
its description. `roxy.toml`, the `ROXY_SECTION_NAME` variables, the documentation and `--help` are
all derived from these Structs. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from workers.catalog.entries import ModelEntry
from workers.units import DAY_S, HOUR_S, KIB, MIB


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens, what it accepts and where it writes."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on; 0.0.0.0 or :: for all.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    ] = 8080
    data_dir: Annotated[
        str, Meta(min_length=1, description="Directory for the database and the key export.")
    ] = "./data"
    processes: Annotated[
        int, Meta(ge=1, le=256, description="Serving processes; this version runs exactly 1.")
    ] = 1
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) of reverse proxies whose X-Forwarded-For is believed."),
    ] = ()
    max_body_bytes: Annotated[
        int, Meta(ge=KIB, le=KIB * MIB, description="Largest request body.")
    ] = 32 * MIB
    max_bodies_bytes: Annotated[
        int,
        Meta(ge=KIB, le=64 * KIB * MIB, description="All request bodies in memory at one time."),
    ] = 256 * MIB
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections of clients at one time; fewer where the system's limit of open"
            " files is lower.",
        ),
    ] = 20_000
    max_header_bytes: Annotated[
        int, Meta(ge=KIB, le=MIB, description="Largest request line and headers together.")
    ] = 32 * KIB
    head_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Time for a request's headers to arrive.")
    ] = 10.0
    body_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Time for a request's body to arrive.")
    ] = 60.0
    idle_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="How long an idle connection is kept.")
    ] = 75.0
    drain_timeout_s: Annotated[
        float, Meta(ge=0, le=DAY_S, description="How long running answers may finish at a stop.")
    ] = 30.0
    tls_cert: Annotated[
        str, Meta(description="PEM file with the certificate chain; empty: plain HTTP.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's private key.")] = ""
    base_url: Annotated[
        str, Meta(description="URL under which clients reach the gateway; empty: as they ask.")
    ] = ""


class Guests(Struct, frozen=True, forbid_unknown_fields=True):
    """What browsers without a key may do, per address (IPv6: per /64) and all together."""

    enabled: Annotated[bool, Meta(description="Whether the web chat works without a key.")] = True
    requests_per_minute: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests a minute of one guest.")
    ] = 10
    requests_per_day: Annotated[
        int, Meta(ge=1, le=100_000_000, description="Requests a day of one guest.")
    ] = 100
    concurrent_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="Requests of one guest at the same time.")
    ] = 2
    total_requests_per_minute: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests a minute of all guests together.")
    ] = 60
    total_requests_per_day: Annotated[
        int, Meta(ge=1, le=100_000_000, description="Requests a day of all guests together.")
    ] = 1000
    models: Annotated[
        tuple[str, ...], Meta(description="Ids of the models guests may use; empty: all.")
    ] = ()
    max_output_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="Longest answer a guest may get, in tokens of all its choices.",
        ),
    ] = 4096


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    """How many requests may wait for a model, and how long."""

    max_waiting: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests that may wait per model.")
    ] = 512
    max_wait_s: Annotated[float, Meta(gt=0, le=DAY_S, description="Longest wait for a turn.")] = (
        120.0
    )


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    """Clocks and sizes of one answer."""

    heartbeat_s: Annotated[
        float, Meta(gt=0, le=HOUR_S, description="Time between comments that keep a stream open.")
    ] = 10.0
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=HOUR_S, description="Time to reach the upstream.")
    ] = 10.0
    first_content_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=DAY_S,
            description="Time for the first content to come; five times as long where it"
            " comes whole.",
        ),
    ] = 120.0
    gap_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="Longest silence in the middle of an answer.")
    ] = 60.0
    total_timeout_s: Annotated[
        float, Meta(ge=0, le=DAY_S, description="Longest time for a whole answer; 0: no limit.")
    ] = 0.0
    write_timeout_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="How long a client may read nothing.")
    ] = 60.0
    max_event_bytes: Annotated[
        int, Meta(ge=4 * KIB, le=KIB * MIB, description="Largest single event from an upstream.")
    ] = 8 * MIB


class Answers(Struct, frozen=True, forbid_unknown_fields=True):
    """How much of answers is kept for readers that come back (`X-Roxy-Keep: true`)."""

    max_answer_bytes: Annotated[
        int, Meta(ge=128 * KIB, le=KIB * MIB, description="Kept of one answer, compressed.")
    ] = 4 * MIB
    max_total_bytes: Annotated[
        int, Meta(ge=MIB, le=64 * KIB * MIB, description="Kept of all answers together.")
    ] = 64 * MIB
    keep_s: Annotated[
        float, Meta(gt=0, le=DAY_S, description="How long an answer is kept after its end.")
    ] = 600.0
    guest_grace_s: Annotated[
        float,
        Meta(gt=0, le=DAY_S, description="How long a guest's answer runs on without a reader."),
    ] = 60.0


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """What new keys get when nothing is said."""

    requests_per_minute: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Requests a minute of a new key; 0: no limit.")
    ] = 60


class UsageRecords(Struct, frozen=True, forbid_unknown_fields=True):
    """How long usage is kept."""

    retention_days: Annotated[
        int, Meta(ge=1, le=36_500, description="Days that single requests stay on record.")
    ] = 90


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and how."""

    access: Annotated[bool, Meta(description="Whether each request gets a line.")] = True
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level that is shown.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="Lines for people, or JSON for machines.")
    ] = "text"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The resolved configuration. Secrets come from the environment only and are hidden in `repr`.

    `path` is the file that was read ("" when there was none).
    """

    server: Server = Server()
    guests: Guests = Guests()
    queue: Queue = Queue()
    stream: Stream = Stream()
    answers: Answers = Answers()
    keys: Keys = Keys()
    usage: UsageRecords = UsageRecords()
    log: Log = Log()
    models: tuple[ModelEntry, ...] = ()
    demo: bool = False
    admin_api_key: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Show the sections, never a secret."""
        shown = (name for name in self.__struct_fields__ if name != "admin_api_key")
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show the same to pretty printers."""
        return [("path", self.path), *((name, getattr(self, name)) for name in SECTIONS)]


SECTIONS: dict[str, type[Struct]] = {
    "server": Server,
    "guests": Guests,
    "queue": Queue,
    "stream": Stream,
    "answers": Answers,
    "keys": Keys,
    "usage": UsageRecords,
    "log": Log,
}
"""The tables of `roxy.toml`, in the order of the documentation."""


class Setting(Struct, frozen=True):
    """One setting as the documentation shows it."""

    path: str
    env: str
    default: object
    doc: str


class Variable(Struct, frozen=True):
    """An environment variable that is no `ROXY_SECTION_NAME`."""

    env: str
    doc: str


SHORT_VARIABLES = (
    Variable("ROXY_CONFIG", "Path of the configuration file; default ./roxy.toml where it exists."),
    Variable("ROXY_DATA_DIR", "Short for ROXY_SERVER_DATA_DIR."),
    Variable("ROXY_ADMIN_API_KEY", "The owner key, at least 16 characters; unset: one is made."),
    Variable("ROXY_DEMO", "Whether the built-in demo upstream serves every model (true or false)."),
    Variable("ROXY_DATABASE_URL", "Reserved for a shared database; must not be set."),
    Variable("ROXY_REDIS_URL", "Reserved for shared counters; must not be set."),
)


def describe_settings() -> list[Setting]:
    """List every setting of `roxy.toml` with its variable, default and documentation."""
    return [
        Setting(
            path=f"{section}.{field.name}",
            env=variable_of(section, field.name),
            default=field.default,
            doc=description_of(field),
        )
        for section, struct in SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    ]


def variable_of(section: str, name: str) -> str:
    """Give the environment variable of a setting: `server.port` is `ROXY_SERVER_PORT`."""
    return f"ROXY_{section}_{name}".upper()


def description_of(field: msgspec.structs.FieldInfo) -> str:
    """Read the description that a field's `Meta` carries."""
    for meta in getattr(field.type, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return ""
