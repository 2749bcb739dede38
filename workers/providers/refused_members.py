"""Find the member of a request, added by the gateway, that an upstream does not know.

The gateway adds `stream_options` to a stream and writes the cap of an answer into `max_tokens` or
`max_completion_tokens`. An upstream that does not take such a member gets the request once more
without it. A complaint about the value of a member is the client's and no reason for that.
"""

from __future__ import annotations

import re

from workers.providers.problem import Problem

ADDED_MEMBERS = ("stream_options", "max_completion_tokens", "max_tokens")

_NAMES = re.compile(
    rf"(?<![\w-])(?:[\w]+\.)*({'|'.join(ADDED_MEMBERS)})(?![\w-])"
    # A member inside it, such as `stream_options.x`, is the client's own.
    r"(?!['\"`\]]*(?:\.|\s*(?:->|→|\[)\s*)['\"`\[]*(?!include_usage)\w)"
)
_SENTENCES = re.compile(r"(?<=[.;!?])\s+|\n+|(?<=\))\s*,\s*|; ?")
_ADVICE = re.compile(
    r"\b(?:please )?(?:use|try|replaced? (?:it )?(?:by|with)|in favor of)\b", re.IGNORECASE
)
_INSTEAD_OF = re.compile(rf"\binstead of\W+({'|'.join(ADDED_MEMBERS)})\b", re.IGNORECASE)
_TOGETHER = re.compile(
    r"at the same time|mutually exclusive|(?:can|must|may)(?:no|')t both|not both|both be"
    r"|only one of|together",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"too (?:large|high|big|small|low|long|many)|must be (?!omitted|absent|unset|removed)|should be"
    r"|at (?:least|most)|m(?:ax|in)imum\b|less than|greater than|exceed|\brange\b|between"
    r"|(?:unsupported|invalid|unexpected|illegal) value|permitted:|expected (?:an?|type)\b"
    r"|only (?:be )?(?:allowed|defined|set|used|valid) (?:when|with|if|for)|when .?stream"
    r"|is required"
    r"|supports? (?:at|up|only)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\bun ?support|not (?:yet |currently )?(?:be )?(?:support|permit|allow|accept|recogni"
    r"|implement"
    r"|available|known|valid|enabled|a (?:valid|known))|n[o']t support|\bunknown\b|unrecogni[sz]ed"
    r"|\bunexpected\b|\bextra\b|no such|cannot find field|forbidden|must be (?:omitted|absent|unset"
    r"|removed)|invalid (?:parameter|field|argument|param|key|property|option)"
    r"|not (?:be )?(?:set|used)"
    r"|additional propert|(?:cannot|can't|can not) be (?:used|set|specified)|does not (?:have"
    r"|exist)"
    r"|deprecated|不支持|未知|不允许",
    re.IGNORECASE,
)
_VALUE_MARKS = ("unsupportedvalue", "invalidvalue", "integerabovemax", "integerbelowmin")
_REFUSED_MARKS = ("unsupportedparameter", "unknownparameter", "extraforbidden", "unknownfield")


def refused_member(problem: Problem) -> str | None:
    """Return which of `ADDED_MEMBERS` the upstream does not support, or None."""
    marks = problem.marks.split()
    if any(mark in marks for mark in _VALUE_MARKS):
        return None
    param = (problem.param or "").rpartition(".")[2] or ""
    if param in ADDED_MEMBERS and any(mark in marks for mark in _REFUSED_MARKS):
        return param
    for sentence in _SENTENCES.split(problem.words):
        member = _refused_in(sentence)
        if member is not None:
            return member
    return None


def _refused_in(sentence: str) -> str | None:
    """Return the member that one sentence refuses."""
    instead = _INSTEAD_OF.search(sentence)
    if instead:
        return instead[1].lower()
    claim = _ADVICE.split(sentence, maxsplit=1)[0]
    names = _NAMES.findall(claim)
    if not names:
        return None
    if _TOGETHER.search(sentence):
        # Of two caps the newer one stays: OpenAI has deprecated `max_tokens`.
        return "max_tokens" if "max_tokens" in names else str(names[0])
    if _VALUE.search(claim) or not _REFUSED.search(claim):
        return None
    return str(names[0])
