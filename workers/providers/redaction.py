"""Remove from an upstream's message what identifies the operator: secrets, hosts, paths, accounts.

Besides the deployment's own secret and address, everything of such a form is removed: messages
quote keys, internal hosts and organisations in words that no list holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment

MAX_MESSAGE_CHARS = 1000
_MAX_READ_CHARS = 2000
"""How much of a message is read, up to the last space: the forms below are searched in it."""
_MIN_SECRET_CHARS = 4
"""Shorter values of headers and queries, such as a version, are words of messages too."""

SECRET, UPSTREAM, HOST, ACCOUNT = "[redacted]", "[upstream]", "[host]", "[account]"
PATH = "[path]"

_OURS = r"owner|organi[sz]ations?|orgs?|projects?|accounts?|teams?|workspaces?|tenants?"
_OURS += r"|subscriptions?|customers?|consumers?|resource ?groups?|billing ?ids?"
_TLD = (
    r"com|net|org|io|ai|dev|app|cloud|co|cn|de|eu|us|uk|fr|jp|sh|xyz|site|tech|online|gov|edu|info"
    r"|internal|intern|local|localdomain|lan|corp|home|intranet|svc|cluster|private|priv|arpa"
    r"|example|test|invalid|localhost|azure|aws|onion"
)
_ROOTS = (
    r"home|root|users|usr|opt|var|etc|mnt|srv|tmp|app|workspaces?|[\w-]+-workspace|models?|data|volumes?"
    r"|media|proc|run|dev|nix|code|src|repos?|build|storage|scratch|lustre|nfs|efs|cache|checkpoints?"
    r"|ckpts?|weights|private|kaggle|content/drive|local|lib|conda|venv|huggingface|hf"
)
"""Directories that begin the paths of servers; `/v1/models` and `/messages/0` are none of these."""
_FILES = (
    r"py|pyc|so|cu|cuh|cpp|cc|c|h|hpp|rs|go|js|ts|mjs|java|rb|php|sh|json|ya?ml|toml|ini|cfg|conf|env"
    r"|log|txt|pem|crt|key|sock|db|sqlite|gguf|ggml|safetensors|bin|pt|pth|onnx|engine|model"
)
_POD = r"[bcdf-hj-np-tv-xz2456789]"
"""The letters and digits of which Kubernetes makes the ends of names."""
_MACHINE = (
    r"pods?|nodes?|host(?:name)?s?|containers?|instances?|machines?|servers?|replicas?|clusters?"
)
_MACHINE += r"|namespaces?|workers?|vms?"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # URLs, first of all: they hold hosts, paths and sometimes secrets.
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'`<>)\]}\u3002\uff0c]+", re.IGNORECASE), HOST),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), ACCOUNT),  # addresses of people
    # Secrets: after the word that announces one, by the prefixes of issuers, or by their form.
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/_.~=-]{8,}", re.IGNORECASE), rf"\1 {SECRET}"),
    (
        re.compile(
            r"\b((?:(?:api|access|secret|private|subscription|x-api|auth\w*)[ _-]?"
            r"(?:key|token|secret)|secret|token|password|credentials?)"
            r"(?: (?:provided|given|used|value|id))?\s*(?:is|was|=|:|of)?\s*[\"'`(\[]?)"
            r"(?=[^\s\"'`]*(?:\d|\*{2}|\.{3}|…))(?=[^\s\"'`]*[A-Za-z*])(?!\d+\b)[^\s\"'`,;)\]]{8,}",
            re.IGNORECASE,
        ),
        rf"\1{SECRET}",
    ),
    (
        re.compile(
            r"\b(?:(?:sk|pk|rk|gsk|xai|hf|r8|pplx|nvapi|fw|tgp|csk|dop|gh[pousr]|github_pat|glpat"
            r"|roxy|ak|tok|esecret|xox[abps])[-_]|key-|AKIA|ASIA|AIza|ya29\.|dapi|SG\.)"
            r"(?=[\w.*-]*(?:\d|\*{2}|\.{3}))[\w.*/+-]{6,}",
        ),
        SECRET,
    ),
    (re.compile(r"\bkey=[^\s&\"'`,;)\]]{6,}", re.IGNORECASE), f"key={SECRET}"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+){1,2}"), SECRET),  # JSON Web Tokens
    (re.compile(r"\b[0-9a-f]{32}\.[A-Za-z0-9]{8,}\b"), SECRET),
    (re.compile(r"(?<![\w*])[\w-]*\*{3,}[\w*-]*"), SECRET),  # partly hidden by the upstream
    # The operator's organisations, projects and accounts.
    (re.compile(r"\barn:[\w-]+:[^\s\"'`,;)]+", re.IGNORECASE), ACCOUNT),
    (
        re.compile(
            rf"\b((?:{_OURS})(?: (?:id|number|name|key))?\s*(?:is|was|[:=#])?\s*)"
            r"(?:[\"'`<“][^\"'`>”\s]{2,80}[\"'`>”]|\(?(?=[\w.:-]*[\d-])\w[\w.:-]{2,}\)?)",
            re.IGNORECASE,
        ),
        rf"\1{ACCOUNT}",
    ),
    (
        re.compile(
            r"(?<![\w-])(?:org|organization|proj|project|acct|account|team|ws|wrkspc|user|cus|sub|tenant|grp)"
            r"[-_](?=[\w-]*\d|\w{14,})[\w-]+",
            re.IGNORECASE,
        ),
        ACCOUNT,
    ),
    (
        re.compile(
            r"(?<![\w])(projects|accounts|organizations|subscriptions|resourceGroups|tenants|teams"
            r"|workspaces|namespaces)/(?!fireworks/)[\w.:-]+",
            re.IGNORECASE,
        ),
        rf"\1/{ACCOUNT}",
    ),
    (
        re.compile(rf"\b((?:{_OURS})(?: (?:id|name))?[:=]\s*)[\w.-]{{3,}}", re.IGNORECASE),
        rf"\1{ACCOUNT}",
    ),
    (
        re.compile(
            r"\b((?:user|key|team|org|organization|account|customer|tenant|project)[_ -]?"
            r"(?:id|alias|name|hash|email)s?(?: \(token\))?[\"']?\s*[:=]\s*[\"'`]?)[\w@.+-]{3,}",
            re.IGNORECASE,
        ),
        rf"\1{ACCOUNT}",
    ),
    # Files of the server, and its machines.
    (
        re.compile(
            rf"(?<![\w/.~:-])(?:~|/(?:{_ROOTS})(?=/))/(?!\d+(?:/|\b(?!\.)))[^\s\"'`<>(),;\]]+"
            rf"|(?<![\w/.:-])(?:/[\w.@+-]+)+\.(?:{_FILES})(?![\w/])",
            re.IGNORECASE,
        ),
        PATH,
    ),
    (
        re.compile(
            r"(?<![\w])(?:[A-Za-z]:\\{1,2}(?![nrt]\b)[\w$.~ -]+|\\{2,4}[\w.-]+)"
            r"(?:\\{1,2}[\w$.~ -]*[\w$.~-])+"
        ),
        PATH,
    ),
    (re.compile(rf"(?<![\w-])(?:[a-z0-9]+-)+{_POD}{{8,10}}-{_POD}{{5}}(?![\w-])"), HOST),
    (
        re.compile(
            r"(?<![\w-])(?:ip-\d{1,3}(?:-\d{1,3}){3}|i-(?=[0-9a-f]*\d)[0-9a-f]{8,17}"
            r"|(?:gke|aks|eks|vm|vmss|srv|node|pod|host|worker|gpu)-(?=[\w-]*\d)[\w-]+)(?![\w-])",
            re.IGNORECASE,
        ),
        HOST,
    ),
    (
        re.compile(
            rf"\b((?:{_MACHINE})(?:[ _]?(?:name|id))?\s*(?:is\b|[:=/])?\s*)"
            r"(?:[\"'`“][^\"'`”\s]{2,80}[\"'`”]|(?!v?\d)(?=[\w./-]*\d)(?=[\w./-]*[A-Za-z])[\w./-]{4,})",
            re.IGNORECASE,
        ),
        rf"\1{HOST}",
    ),
    # Hosts and addresses without a scheme.
    (
        re.compile(
            r"(?<![\w:])(?=[0-9a-f:]*::)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
            re.IGNORECASE,
        ),
        HOST,
    ),
    (
        re.compile(r"\[?\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}\b\]?(?::\d{2,5})?", re.IGNORECASE),
        HOST,
    ),
    (re.compile(r"\[(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}\](?::\d{2,5})?", re.IGNORECASE), HOST),
    (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)(?::\d{1,5})?"), HOST),
    (
        re.compile(
            rf"(?<![\w.@-])(?:[a-z0-9](?:[\w-]{{0,62}})\.)+(?:{_TLD})(?![\w-])(?!\.\w)(?::\d{{1,5}})?"
            r"(?:/[^\s\"'`<>)]*)?",
            re.IGNORECASE,
        ),
        HOST,
    ),
    (re.compile(r"(?<![\w.-])(?:localhost|[a-z][a-z0-9-]*):\d{4,5}(?!\d)", re.IGNORECASE), HOST),
    (re.compile(r"(?<![\w.-])localhost(?![\w-])", re.IGNORECASE), HOST),
    # Long runs of letters and digits; ids of calls and messages, which clients know, are shorter.
    (re.compile(r"(?<![\w-])(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9+/]{32,}={0,2}(?![\w-])"), SECRET),
)


def redact(message: str, deployment: Deployment) -> str:
    """Return a message without secrets, hosts, paths, accounts and control characters, capped."""
    if len(message) > _MAX_READ_CHARS:  # half a secret at the end would not be recognised
        message = message[:_MAX_READ_CHARS].rpartition(" ")[0] or message[:_MAX_READ_CHARS]
    message = _without_own(message, deployment)
    for form, mark in _RULES:
        message = form.sub(mark, message)
    message = "".join(char if char.isprintable() else " " for char in message).strip()
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def _without_own(message: str, deployment: Deployment) -> str:
    """Remove the deployment's secret and the parts of its address."""
    url = urlsplit(deployment.base_url)
    sent = (value for _, value in deployment.headers)
    secrets = (deployment.secret, url.password, *deployment.quirks.headers.values(), *sent)
    for secret in (*secrets, *url.query.split("&")):
        if secret and len(secret) >= _MIN_SECRET_CHARS:
            message = message.replace(secret, SECRET)
    for name in (deployment.base_url.partition("?")[0], url.netloc, url.hostname):
        if name:
            whole_name = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
            message = re.sub(whole_name, UPSTREAM, message, flags=re.IGNORECASE)
    return message
