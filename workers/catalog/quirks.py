"""What one upstream wants differently from others, as data of its deployment.

Without such data a request reaches the upstream as it came. The same Struct describes the keys of
`[[models.deployments]]` in `roxy.toml`, so that the documentation is made of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MemberName = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[^\r\n]*\Z")]


CapField = Literal["", "max_tokens", "max_completion_tokens", "both"]


class Quirks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The differences of one deployment; every default is what OpenAI's API does."""

    max_tokens_field: Annotated[
        CapField,
        Meta(
            description="The member by which this upstream caps an answer; that of the client is"
            " renamed to it. Empty: the usual one of a known host, such as `api.openai.com`; else"
            " sent as the client sent it, and where a limit of a key must hold in both members,"
            " until one is refused."
        ),
    ] = ""
    system_role: Annotated[
        Literal["", "system", "developer"],
        Meta(description="The role of instructions here; empty: sent as the client sent it."),
    ] = ""
    stream_options: Annotated[
        bool,
        Meta(description="Whether it takes `stream_options`, by which a stream reports its usage."),
    ] = True
    headers: Annotated[
        dict[MemberName, str],
        Meta(
            description='More request headers, such as `{ api-key = "$AZURE_KEY" }`; `$NAME` and'
            " `${NAME}` stand for an environment variable, `$$` for a `$`."
        ),
    ] = {}
    add_fields: Annotated[
        dict[MemberName, Any],
        Meta(
            description="Members added to each request, in place of the client's and after"
            " `drop_fields`; not those that the gateway itself sets (`model`, `messages`,"
            " `stream`, `stream_options`, `n`, `max_tokens`, `max_completion_tokens`)."
        ),
    ] = {}
    drop_fields: Annotated[
        tuple[MemberName, ...],
        Meta(
            description="Members of a request that are not passed on; not those that the gateway"
            " itself sets (see `add_fields`)."
        ),
    ] = ()
    owner_only_tools: Annotated[
        tuple[MemberName, ...],
        Meta(
            description="Types of tools that only the owner may use here, because they cost more"
            " than tokens; a `*` at the end stands for any ending, and alone for all types but"
            " `function` and `custom`."
        ),
    ] = ()
    cost_is_authoritative: Annotated[
        bool,
        Meta(description="Whether the cost in its usage (`usage.cost`, dollars) is what is paid."),
    ] = False
    picture_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000,
            description="The most tokens that one picture costs here, for budgets; at least 8,192.",
        ),
    ] = 0
    max_event_bytes: Annotated[
        int,
        Meta(ge=0, description="The largest event of a stream; 0: `stream.max_event_bytes`."),
    ] = 0
    ca_file: Annotated[
        str,
        Meta(
            description="A PEM file with the authorities that may sign this host's certificate, in"
            " place of the usual ones; `environment`: the file of `SSL_CERT_FILE`, if it is set."
        ),
    ] = ""
    proxy: Annotated[
        str,
        Meta(
            description="An HTTP proxy: its URL, or `environment` for `HTTPS_PROXY`, `HTTP_PROXY`,"
            " `ALL_PROXY` and `NO_PROXY`; empty: none."
        ),
    ] = ""


NO_QUIRKS = Quirks()


class Learnt(Struct, frozen=True, kw_only=True):
    """What the refusals of one deployment have taught; the fields are named as in `roxy.toml`.

    Answers get a cap of at most `max_output_tokens` (0: not learnt). Where the upstream did not say
    how many it takes, caps of `refused_output_tokens` and more are not sent (0: none was refused):
    its own maximum is smaller, so that what was reserved is enough.
    """

    max_tokens_field: Literal["", "max_tokens", "max_completion_tokens"] = ""
    stream_options: bool = True
    max_output_tokens: int = 0
    refused_output_tokens: int = 0

    def cap_sent(self, cap: int) -> int | None:
        """Return the cap to send in place of one that the gateway has chosen; None: no cap."""
        if self.max_output_tokens:
            cap = min(cap, self.max_output_tokens)
        return None if 0 < self.refused_output_tokens <= cap else cap

    def lines(self) -> list[str]:
        """Return what was learnt, as the owner may state it in `roxy.toml`."""
        lines = []
        if self.max_tokens_field:
            lines.append(f'max_tokens_field = "{self.max_tokens_field}"')
        if not self.stream_options:
            lines.append("stream_options = false")
        if self.max_output_tokens:
            lines.append(f"max_output_tokens = {self.max_output_tokens}")
        elif self.refused_output_tokens:
            lines.append(f"max_output_tokens < {self.refused_output_tokens}")
        return lines


NOTHING_LEARNT = Learnt()


class Clocks(Struct, frozen=True):
    """The clocks of one model in seconds, in place of the settings of `[stream]`; None: those."""

    first_content_timeout_s: float | None = None
    gap_timeout_s: float | None = None
    total_timeout_s: float | None = None


NO_CLOCKS = Clocks()
