"""Find the key in a text that somebody has pasted, whatever came with it.

People copy keys from mails, chats, `.env` files, shell scripts, JSON and documentation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from server.keys.secret import PREFIX, SECRET_LENGTH, well_formed

OWN_KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_LENGTH - len(PREFIX)}}}")
ASSIGNED = re.compile(r"(?:export\s+|set\s+|\$env:)?[\"'`]?[A-Za-z_][\w-]*[\"'`]?\s*[:=]\s*(?=\S)")
"""What is before the value: `export NAME=`, `NAME: `, `"NAME": `, `$env:NAME = `."""
BEARER = re.compile(r"bearer\s+", re.IGNORECASE)
QUOTES = (
    "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f"
    "\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f\uff02\uff07"
)
AROUND = QUOTES + "<>()[]{},;"
"""Signs that stand before and after a key, and are no part of one."""
MAX_CANDIDATES = 3


def keys_in(text: str) -> list[str]:
    """Return what may be the key in a pasted text, the likeliest first; a few at most."""
    visible = "".join(one for one in text if one.isspace() or not _is_invisible(one))
    joined = "".join(unicodedata.normalize("NFKC", visible).split())
    own = [one for one in OWN_KEY.findall(joined) if well_formed(one)]
    # An owner key is any text of 16 characters or more, so it may hold any of these signs itself.
    return list(
        dict.fromkeys([*own[:MAX_CANDIDATES], text.strip(), visible.strip(), *_stripped(visible)])
    )


def looks_cut(text: str) -> bool:
    """Return True if a text has the beginning of a key of this server, but no whole one."""
    return PREFIX in text and not any(well_formed(one) for one in keys_in(text))


def _is_invisible(letter: str) -> bool:
    """Return True for control and format characters, such as the zero-width space."""
    return unicodedata.category(letter) in ("Cc", "Cf")


def _stripped(text: str) -> Iterator[str]:
    """Yield a text without the name it is assigned to, then without `Bearer`, then quotes."""
    text = text.strip()
    for _ in range(MAX_CANDIDATES):
        before = text
        for prefix in (ASSIGNED, BEARER):
            if found := prefix.match(text):
                text = text[found.end() :]
                yield text
        text = text.strip(AROUND + " \t\r\n\u00a0")
        yield text
        if text == before:
            return
