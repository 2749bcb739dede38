"""Classify what an upstream's rejection is about, by its types, codes and words.

The words are read before the status decides: upstreams report an empty account with 400, 401, 402,
403, 412 and 429, and a prompt that is too long with 400, 413, 422 and 500. Each row of `KINDS` is
one kind; the first that matches is taken. A new wording is a new alternative in a row.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

from workers.providers.problem import Problem
from workers.providers.sent_texts import QUOTE_MARK, SentTexts

KindName: TypeAlias = Literal[
    "",
    "credit",
    "credentials",
    "denied",
    "filtered",
    "resource",
    "model",
    "address",
    "unsupported",
    "too_long",
    "too_large",
    "rate",
    "timeout",
    "overloaded",
    "failed",
    "rejected",
]

IN_BAND = 0
"""The status of an error that came with 200 and states none."""
_LEAD_CHARS = 160
"""How much of a message about a request is read for faults of the deployment: later parts may
quote the prompt, and no prompt may put a deployment aside."""
_QUOTED = re.compile(
    r"(?<![A-Za-z0-9])'[^'\n]{0,400}'(?![A-Za-z0-9])|\"[^\"\n]{0,400}\"|`[^`\n]{0,400}`"
)
STATUSES_OF_REQUESTS = frozenset({400, 413, 422})


class Kind(NamedTuple):
    """One kind: its types and codes (under any status), and its words under some statuses.

    `own` kinds are faults of the deployment. `statuses` None: any.
    """

    name: KindName
    marks: re.Pattern[str] | None = None
    words: re.Pattern[str] | None = None
    statuses: frozenset[int] | None = None
    own: bool = False


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


_CLIENT_ERRORS = frozenset({IN_BAND, *range(400, 500)})

KINDS: tuple[Kind, ...] = (
    Kind(
        "filtered",
        marks=_words(
            r"content_?filter|content(policy|safety|moderation|risk|blocked)|responsibleai",
            r"moderation|datainspection|prohibitedcontent|guardrail|promptblocked|unsafecontent",
            r"safetyviolation|policyviolation|inappropriatecontent|sensitivecontent",
        ),
    ),
    Kind(
        "too_long",
        marks=_words(
            r"context(length|window|size)|exceedcontext|prompttoo(long|large)|inputtoo(long|large)",
            r"tokens?limit(exceeded|reached)|maxprompt(length|tokens)|promptexceeds",
        ),
    ),
    Kind(
        "credit",
        marks=_words(
            r"insufficient(account)?(quota|credits?|balance|funds|userquota)|billing",
            r"creditbalance|(out|outof|no)credits?\b|paymentrequired|exceededcurrentquota",
            r"arrearage|(spend|spending|credit)limit|accountoverdue|blockedapiaccess",
        ),
        own=True,
    ),
    Kind(
        "model",
        marks=_words(
            r"model(not|_not)?(found|exists?|notexist|decommissioned|deprecated|terms)",
            r"(invalid|unknown|nosuch|unsupported)model|modelnot(available|allowed|supported)",
            r"deploymentnotfound|modelnotfound",
        ),
        own=True,
    ),
    # Words of an account that is suspended name policies and budgets too: before the filters.
    Kind(
        "credit",
        words=_words(
            r"suspended.{0,80}(spend|invoice|payment|billing|balance|plan)|(past|unpaid) invoices",
            r"(balance|credits?|funds|quota) (is |are )?(too low|insufficient|exhausted|used up)",
            r"insufficient (account )?(balance|credits?|funds|quota)|credit balance",
            r"out of (credits?|funds|money|quota|balance)",
            r"(requires?|need|add|purchase|buy) (at least |more |additional )?\S{0,8} ?credits",
            r"(have|has|are|with) (any |no |not enough )(available )?(credits|balance)"
            r"|no credits (left|remain|available)",
            r"n't have any credits|used all (of )?(your |the )?(available )?credits",
            r"(exceed|reach|hit|over|limit)\w*.{0,60}(current quota|spend(ing)? (limit|cap|budget)"
            r"|monthly (spend|budget|limit)|api usage limits|credit limit|hard limit)",
            r"(spend(ing)?|credit|budget) (limit|cap) .{0,30}(exceed|reach)|key limit exceeded",
            r"check your plan and billing|billing (is )?not active|payment (is )?required",
            r"please (recharge|top.?up)|no resource package|account is in good standing",
            r"budget has been exceeded|余额不足|欠费|充值|资源包",
        ),
        statuses=frozenset({IN_BAND, 400, 401, 402, 403, 412, 422, 429}),
        own=True,
    ),
    Kind(
        "credentials",
        words=_words(
            r"(account|organi[sz]ation|api key|workspace|team|user|project)\b.{0,60}"
            r"(suspended|deactivated|disabled|banned|restricted|terminated|is not active|locked)"
        ),
        statuses=frozenset({IN_BAND, 400, 401, 403, 412, 423}),
        own=True,
    ),
    Kind(
        "filtered",
        words=_words(
            r"requires moderation|content (management|moderation|safety|usage|filter\w*) ?polic",
            r"content[ _-]?filter|(was|were|been|is|got) flagged|flagged (for|as|by)|moderation",
            r"(usage|content|safety|acceptable use)s? (polic|guideline)",
            r"violat\w* .{0,60}(polic|guideline|terms|rules)|policy violation|guardrail",
            r"content exists risk|high risk|safety (system|check|filter|reason|concern"
            r"|setting)s?\b",
            r"(inappropriate|harmful|prohibited|unsafe|sensitive|illegal|disallowed|offensive)"
            r"[ -]*(\w+[ -]){0,3}(content|use|material|information|words)",
            r"(blocked|rejected|refused|denied) (by|due to|for|because).{0,60}"
            r"(safety|content|polic|moderat|filter)",
            r"(content|prompt|input|request)\b.{0,40}\b(is|was|are|were|been) ?(not )?"
            r"(allowed|permitted|blocked|prohibited)",
            r"敏感|不安全|违规|违反|审核",
        ),
        statuses=frozenset({IN_BAND, 400, 403, 422, 451}),
    ),
    Kind(
        "too_large",
        words=_words(
            r"request too large.{0,300}(tokens per|\bTPM\b|\bITPM\b|\bTPD\b)",
            r"tokens per (min|minute|day).{0,300}(must be reduced|reduce your message)",
        ),
    ),
    Kind(
        "too_long",
        words=_words(
            r"(prompt|input|message|conversation|history|context)s?( (is|are|was"
            r"|were))? too (long|large)",
            r"max(imum)? (context|prompt|model|input|sequence)( (token|context"
            r"|model))? (length|size|window)",
            r"(exceed|greater|larger|longer|more|over|beyond|surpass)\w*\b.{0,80}"
            r"\b(context|token limit|max(imum)? (number of |input )?tokens|model token limit)",
            r"context[ _-]?(length|window|size)\b.{0,80}\b(exceed|is only|overflow|too|limit"
            r"|of only)",
            r"\bn_ctx\b|context (limit|overflow)|(too many|number of|total) (input "
            r"|prompt )?tokens\b.{0,60}"
            r"(exceed|than|max|limit|wait)?.{0,20}(context|model)",
            r"(input|prompt)( token count| length| tokens)?\b.{0,80}exceed.{0,60}(max|limit"
            r"|length)",
            r"reduce the (length|size|number of tokens) (of|in) (the|your) (messages|prompt|input)",
            r"too many (input |prompt )?tokens(?!.{0,20}\b(wait|per)\b)",
            r"(total|number of) (input |prompt )?tokens\b.{0,60}(exceed|greater|larger|more than)",
            r"`?inputs`? tokens \+ `?max_new_tokens`? must be|range of input length",
            r"max_(completion_)?tokens`?'? must be at least 1, got -",
            r"(prompt|input|messages?|conversation|request)\b.{0,40}\b(fits?"
            r"|fit into)\b.{0,40}context",
            r"(prompt|输入|上下文|内容|长度|文本).{0,12}(超长|过长|超过|超出|太长)|超过.{0,12}(上下文|长度)",
        ),
        statuses=frozenset({IN_BAND, 400, 413, 422, 429, 500}),
    ),
    Kind(  # of the path of the request, not of anything that it names
        "address",
        words=_words(
            r"^\W*((error|code)\W*)*(404\W+)?((the )?(requested )?"
            r"(page|file|path|route|url|uri|endpoint|resource)( requested)?\W+)?"
            r"(was |is |could |does )?not (be )?(found|exist)( on (this|the) server)?\W*$",
            r"^\W*invalid url|^\W*cannot (post|get) /|unexpected endpoint|unknown request url",
            r"no (such |matching )?(route|handler|path)( matched| found| with)?\b",
            r"/chat/completions",
        ),
        statuses=frozenset({404, 405}),
        own=True,
    ),
    Kind(
        "resource",
        words=_words(
            r"\b(file|image|video|audio|document|thread|assistant|response|batch|cached ?content"
            r"|vector store|conversation)\b.{0,100}(not found|not exist|no such|no longer exists)",
            r"(no such|permission to access the|access to (the )?)"
            r" ?(file|cached ?content|image|document)",
        ),
        statuses=frozenset({403, 404, 410}),
    ),
    Kind(
        "unsupported",
        words=_words(
            r"no endpoints? (are |were )?(found|available)? ?(that |which )?(can )?(support"
            r"|handle)",
            r"no (provider|endpoint|deployment|backend)s?\b.{0,60}\bsupport",
            r"(not|n't|cannot) (yet )?(support|accept|handle|process)s?\b.{0,60}\b(tool|function"
            r"|image|vision|audio|video|file|pdf|document|multi-?modal|media|response.?format|json"
            r"|structured|schema|reasoning|thinking|stream|system|developer|parallel|logprobs|n >)",
            r"\b(tool|function|image|vision|audio|video|file|pdf|multi-?modal|json|structured"
            r"|schema"
            r"|reasoning|thinking|stream)\w*\b.{0,60}\b(not|n't|un)[ -]?(yet )?(support|available"
            r"|implement|enabled)",
            r"not a (multimodal|vision|tool)|requires? (a )?(vision|multimodal) model",
        ),
        statuses=frozenset({IN_BAND, 400, 403, 404, 405, 410, 415, 422, 500, 501}),
    ),
    Kind(
        "model",
        words=_words(
            r"\bmodels?\b(?!_)(?:[^.;]|\.\w){0,160}(not (found|exist)|does not exist"
            r"|doesn't exist|decommissioned"
            r"|no longer (available|supported)|has been (retired|deprecated|removed))",
            r"(unknown|invalid|no such|unable to access|not found the|could not find the"
            r"|access to (the )?)\s?models?\b(?![ _-]?(kwargs|output|response|param))",
            r"not a valid model|model (identifier|id|name|code)\b.{0,30}(invalid|not valid"
            r"|unknown)",
            r"try pulling it|deployment for this resource does not exist|check the model code",
            r"on-demand throughput isn.t supported|模型.{0,12}(不存在|未找到|已下线)",
        ),
        statuses=frozenset({IN_BAND, 400, 401, 403, 404, 410, 422, 500, 503}),
        own=True,
    ),
    Kind(
        "credentials",
        marks=_words(
            r"api_?key(invalid|expired|notfound|missing|disabled|required)|invalidapikey",
            r"(incorrect|missing|wrong|expired)apikey|authentication|unauthenticated",
            r"unauthori[sz]ed|(invalid|expired|missing)token|unrecognizedclient|signaturedoes",
            r"accessdenied|permission_?(error|denied)|permission\b|organizationrestricted",
            r"account(deactivated|suspended|disabled)|invalidorganization|ipnotauthorized",
            r"securitytoken|invalidcredentials|\bforbidden\b",
        ),
        own=True,
    ),
    Kind(
        "credentials",
        words=_words(
            r"\b(invalid|incorrect|wrong|missing|expired|revoked|malformed|unknown|bad|no|your)\b"
            r".{0,20}\b(api[ _-]?keys?|x-api-key|auth\w* (token|header)|access token|bearer token"
            r"|credentials?|subscription key)",
            r"api[ _-]?keys?\b.{0,60}(not valid|invalid|expired|not found|missing|required"
            r"|incorrect"
            r"|revoked|disabled|not exist|leaked|unauthori[sz]ed|no permission)",
            r"(authentication|authorization) (failed|error|required|header|is required)",
            r"^\W*(unauthori[sz]ed|forbidden|access denied|not authenticated|authentication)",
            r"security token.{0,60}(invalid|expired)|signature we calculated"
            r"|could not be authenticated",
            r"身份验证|鉴权|(令牌|token|密钥).{0,6}(无效|过期|非法|不正确|失效)",
        ),
        statuses=_CLIENT_ERRORS | {500},
        own=True,
    ),
    Kind(  # a 403 in other words may be about one prompt
        "credentials",
        words=_words(
            r"permission|\baccess|forbidden|not (allowed|authori[sz]ed|permitted|entitled|enabled)",
            r"api.?key|\bregion|country|territor|subscription|\bplan\b|trial|\bip\b|firewall"
            r"|licen[sc]e",
        ),
        statuses=frozenset({403}),
        own=True,
    ),
    Kind(
        "rate",
        marks=_words(
            r"rate_?limit|toomanyrequests|resourceexhausted|slowdown|throttl|requestlimitexceeded",
            r"quotaexceeded|concurrency(limit|exceeded)|limitrequests|limitburst",
        ),
    ),
    Kind(
        "rate",
        words=_words(
            r"rate[ -]?limit|too many (requests|tokens)|throttl|quota exceeded"
            r"|requests per (min|sec)",
            r"tokens per (min|day)|concurren\w+ (limit|requests?)|usage limit reached",
            r"error code: 1015|请求过多|速率|频率|并发数",
        ),
        statuses=frozenset({IN_BAND, 400, 403, 500}),
    ),
)

_COOLING: tuple[KindName, ...] = ("credit", "credentials", "rate")
"""Kinds after one of which a deployment is not used for a while."""

_TIMED_OUT = _words(r"timeout|timedout|deadlineexceeded")
_OVERLOADED = _words(r"overloaded|unavailable|nocapacity|atcapacity")
_FAILED = _words(r"servererror|internal|apierror")
_REJECTED = _words(
    r"invalidrequest|badrequest|invalidargument|validation|unprocessable|invalidparam"
)
_MARKED: tuple[tuple[KindName, re.Pattern[str], frozenset[int]], ...] = (
    ("rejected", _REJECTED, frozenset({IN_BAND, 500})),
    ("timeout", _TIMED_OUT, frozenset({IN_BAND})),
    ("overloaded", _OVERLOADED, frozenset({IN_BAND})),
    ("failed", _FAILED, frozenset({IN_BAND})),
)
"""Types and codes that count where no status does: also a 500 that says "invalid request"."""
_BY_STATUS: dict[int, KindName] = {
    401: "credentials",
    402: "credit",
    403: "denied",
    404: "model",
    410: "model",
    408: "timeout",
    504: "timeout",
    522: "timeout",  # Cloudflare: the connection to the origin timed out
    524: "timeout",  # Cloudflare: the origin did not answer in time
    598: "timeout",
    599: "timeout",
    429: "rate",
    503: "overloaded",
    529: "overloaded",  # Anthropic
}


def kind_of(status: int, problem: Problem, sent: SentTexts | None = None) -> KindName:
    """Return the kind of a rejection; "" where neither its words nor its status say one.

    What `sent`, the request, has itself does not count against the deployment.
    """
    lead = _QUOTED.sub(QUOTE_MARK, problem.words)[:_LEAD_CHARS]
    for kind in KINDS:
        if _fits(kind, status, problem, lead, sent):
            return kind.name
    for name, marks, statuses in _MARKED:
        if status in statuses and marks.search(problem.marks):
            return name
    if status in STATUSES_OF_REQUESTS:
        return "rejected"
    if status in (404, 405) and not problem.words:
        return "address"  # a page of a server or proxy: no model was looked for
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "failed" if status == 409 or status >= 500 else ""


def _fits(kind: Kind, status: int, problem: Problem, lead: str, sent: SentTexts | None) -> bool:
    """Return whether a rejection is of a kind, by evidence that is not the client's own."""
    found = [kind.marks.search(problem.marks) if kind.marks is not None else None]
    if kind.words is not None and (kind.statuses is None or status in kind.statuses):
        found.append(kind.words.search(lead if kind.own else problem.words))
    evidence = [match[0] for match in found if match is not None]
    if sent is None or kind.name not in _COOLING:
        return bool(evidence)
    return not all(map(sent.hold, evidence))
