"""Find what an upstream refuses of what the gateway adds to a request.

The gateway adds `stream_options` to a stream and writes the cap of an answer into `max_tokens` or
`max_completion_tokens`. An upstream that does not take such a member gets the request once more
without it. A complaint about the value of a member is the client's and no reason for that, except
for a cap that is too large: the gateway may have chosen it.
"""

from __future__ import annotations

import re

from workers.errors import RefusedCap
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

_CAP_NAMES = re.compile(
    r"max_(?:completion_|output_|new_)?tokens|max(?:imum)? ?(?:output ?)?tokens|maxOutputTokens"
    r"|(?:completion|output) tokens|in the (?:completion|output)",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"too (?:large|high|big|many)|at most|up to|(?:less|lower|smaller) than|<=|≤|\w\W{0,2}> ?\d"
    r"|exceed|above|maximum (?:value|allowed|is|of)|valid range|\brange\b|between|范围|最大|超过"
    r"|不能大于",
    re.IGNORECASE,
)
_NUMBER = r"(\d{1,3}(?:[,_]\d{3})+(?!\d)|\d+)"
_MAXIMUM = tuple(
    re.compile(pattern.replace("#", _NUMBER), re.IGNORECASE)
    for pattern in (
        r"[\[(\uff08\u3010]\s*\d+\s*[,\uff0c~-]\s*(\d+)\s*[\])\uff09\u3011]",
        r"\bto # ?\(exclusive\)",
        r"between \d+ and #",
        r"at most\W*#",
        r"(?:less|lower|smaller) than or equal(?: to)?\W*#",
        r"(?:<=|≤)\W*#",
        r"\w\W{0,2}> ?#",
        r"(?:model|token|output|maximum) limit(?: is| of)?\W*#",
        r"maximum (?:value |allowed )*(?:is|of)?\W*#",
        r"\b(?:up to|exceeds?|above|max(?: is| of)?)\W*#",
        r"(?:less|lower|smaller) than\W*#",
        r"(?:最大|超过|不能大于)\D{0,6}#",
    )
)
"""Where the most tokens of an answer are stated, the plainest way first."""
_EXCLUSIVE = ("exclusive", "(?:less|lower|smaller) than\\W")
_WINDOW = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|inputs?\W? tokens \+|input length and",
    re.IGNORECASE,
)
_PROMPT = re.compile(r"\b(?:inputs?|prompt|messages?)\b", re.IGNORECASE)
_SIZES = tuple(
    re.compile(pattern.replace("#", _NUMBER), re.IGNORECASE)
    for pattern in (
        r"\d \+ \d+ ?> ?#",
        r"<= ?#",
        r"context[ _-]?(?:length|window|size|limit)\D{0,30}#",
    )
)
"""Where the size of the context window is stated."""
_PROMPT_TOKENS = re.compile(
    rf"{_NUMBER}\W{{0,2}}(?:(?:tokens? )?(?:in|of|from) the (?:messages|prompt|input|functions)"
    rf"|of text input|inputs?\W? tokens|prompt tokens|\+ \d+ ?> ?\d)",
    re.IGNORECASE,
)


def refused_cap(problem: Problem) -> RefusedCap | None:
    """Return what the upstream takes when it refuses the cap of an answer as too large, or None.

    A cap is too large for the model, or for the rest of its window beside this prompt.
    """
    words = problem.words
    if not _CAP_NAMES.search(words) and not _CAP_NAMES.search(problem.param or ""):
        return None
    if _WINDOW.search(words) and _PROMPT.search(words):
        return _beside_prompt(words)
    if not _TOO_LARGE.search(words):
        return None
    lasting = "stream" not in words.lower()  # some take less in a whole answer
    for pattern in _MAXIMUM:
        found = pattern.search(words)
        if found:
            return RefusedCap(_number(found[1]) - _is_exclusive(pattern), lasting)
    return RefusedCap(0, lasting)


def _beside_prompt(words: str) -> RefusedCap | None:
    """Return how many tokens the window has beside the prompt; None: the prompt alone fills it."""
    size = next((found for each in _SIZES if (found := each.search(words))), None)
    prompt = sum(map(_number, _PROMPT_TOKENS.findall(words)))
    if size is None or not prompt or "at least" in words:
        return RefusedCap(0, lasting=False)
    left = _number(size[1]) - prompt
    return RefusedCap(left, lasting=False) if left > 0 else None


def _is_exclusive(pattern: re.Pattern[str]) -> bool:
    return any(mark in pattern.pattern for mark in _EXCLUSIVE)


def _number(digits: str) -> int:
    return int(digits.replace(",", "").replace("_", ""))


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
