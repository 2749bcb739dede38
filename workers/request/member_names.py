"""Compare the names of members as upstreams compare them.

Servers in Go match names without regard to case, and fold U+017F and U+212A to `s` and `k`
(encoding/json): they would read `Max_Tokens` as the cap that was checked here under another name.
Servers that parse JSON into protocol buffers also read `maxTokens` (ProtoJSON).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from workers.errors import InvalidRequest

COST_NAMES = frozenset(
    {"max_tokens", "max_completion_tokens", "stream_options", "service_tier", "web_search_options"}
)
"""Members on which the cost depends: their names in camel case are refused too."""
_CAMEL = {name.replace("_", ""): name for name in COST_NAMES}


def folded(name: str) -> str:
    """Return a name as a reader that ignores case compares it."""
    return name.casefold()


def refuse_lookalikes(names: Iterable[str], checked: Collection[str], path: str = "") -> None:
    """Raise InvalidRequest for a name that folds to a checked one without being it.

    `names` contains none of the checked names; `path` is the place of the members.
    """
    for name in names:
        plain = folded(name)
        real = plain if plain in checked else None if path else _CAMEL.get(plain)
        if real is not None:
            param = f"{path}{name[:100]}"
            raise InvalidRequest(
                f"Unknown member '{param}': some upstreams read it as '{real}'. Send '{real}'.",
                param=param,
            )
