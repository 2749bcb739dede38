"""The bad requests that `test_bad_input.py` makes, as tables: name, what is sent, what is named.

`param` is the field that the answer must name; None: none is to be named.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from support.front_door import MODEL, request_body


class Bad(NamedTuple):
    """A body that must be refused."""

    name: str
    body: bytes
    param: str | None = None


VALID = json.dumps(request_body("Hi")).encode()
MESSAGES = b'[{"role":"user","content":"Hi"}]'


def with_field(name: str, value: str) -> bytes:
    """Write a valid chat request with one field added or replaced; `value` is JSON or nearly so."""
    fields = {"model": f'"{MODEL}"', "messages": MESSAGES.decode()} | {name: value}
    return ("{" + ",".join(f'"{key}":{text}' for key, text in fields.items()) + "}").encode()


def nested(levels: int, opening: str = "[", closing: str = "]", inner: str = "") -> str:
    """Write JSON nested so many levels deep."""
    return opening * levels + inner + closing * levels


NOT_JSON = {
    "nothing": b"",
    "spaces": b"  \r\n\t ",
    "one brace": b"{",
    "one quote": b'"',
    "an open string": VALID[:-4],
    "half": VALID[: len(VALID) // 2],
    "all but the last byte": VALID[:-1],
    "trailing byte": VALID + b"x",
    "trailing object": VALID + b"{}",
    "trailing NUL": VALID + b"\0",
    "two lines of JSON": VALID + b"\n" + VALID,
    "trailing comma": VALID[:-1] + b",}",
    "single quotes": VALID.replace(b'"', b"'"),
    "no quotes": b"{model:1}",
    "a comment": b"/* hi */" + VALID,
    "form": b"model=test/one&messages=hi",
    "xml": b"<model>test/one</model>",
    "html": b"<script>alert(1)</script>",
    "two BOMs": b"\xef\xbb\xbf" * 2 + VALID,
    "UTF-16": VALID.decode().encode("utf-16"),
    "UTF-32": VALID.decode().encode("utf-32"),
    "latin-1": '{"model":"é"}'.encode("latin-1"),
    "gzip": gzip.compress(VALID),
    "NULs": b"\0" * 100,
    "0xFF": b"\xff" * 100,
    "control character in a string": with_field("user", '"a\x01b"'),
    "line break in a string": with_field("user", '"a\nb"'),
    "bad escape": with_field("user", r'"\x41"'),
    "bad unicode escape": with_field("user", r'"\u00g0"'),
    "short unicode escape": with_field("user", r'"\u12"'),
    "an array": b"[" + VALID + b"]",
    "an empty array": b"[]",
    "a string": b'"hello"',
    "a string of JSON": json.dumps(VALID.decode()).encode(),
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "many brackets": b"[" * 200_000,
    "many braces": b'{"a":' * 100_000,
    "many quotes": b'"' * 100_001,
    "a key without a value": b'{"model"}',
    "a value without a key": b'{:"model"}',
    "a number as a key": b'{1:"model"}',
    "two colons": b'{"model"::1}',
    "leading zero": with_field("seed", "01"),
    "plus": with_field("seed", "+1"),
    "hex": with_field("seed", "0x10"),
    "a dot alone": with_field("temperature", "1."),
    "a bare dot": with_field("temperature", ".5"),
    "an exponent alone": with_field("temperature", "1e"),
    "minus alone": with_field("temperature", "-"),
    "True": with_field("stream", "True"),
    "None": with_field("stream", "None"),
    "undefined": with_field("stream", "undefined"),
}


def not_utf8() -> Iterator[Bad]:
    """Return bytes that are not UTF-8, where they are read and where they are skipped."""
    for name, bad in {
        "a lone byte": b"\xff",
        "a cut sequence": b"\xc3",
        "an over-long NUL": b"\xc0\x80",
        "an encoded surrogate": b"\xed\xa0\x80",
        "beyond Unicode": b"\xf4\x90\x80\x80",
        "a lone continuation": b"\x80",
    }.items():
        in_content = VALID.replace(b"Hi", b"Hi " + bad)
        yield Bad(f"{name} in the content", in_content)
        yield Bad(f"{name} in an unknown field", VALID[:-1] + b',"zz":"' + bad + b'"}')
        yield Bad(f"{name} in a key", VALID[:-1] + b',"' + bad + b'":1}')


def tool(parameters: str) -> str:
    """Write a list of one tool with these parameters."""
    return f'[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]'


def too_deep() -> Iterator[Bad]:
    """Return JSON beyond 64 levels; the object around it is the first."""
    for levels in (64, 65, 1000, 100_000):
        shown = levels + 1
        yield Bad(f"{shown} levels of arrays", with_field("zz", nested(levels)))
        yield Bad(f"{shown} levels of objects", with_field("zz", nested(levels, '{"a":', "}", "1")))
        yield Bad(f"{shown} levels, open", VALID[:-1] + b',"zz":' + b"[" * levels)
    yield Bad("1000 levels in a schema", with_field("tools", tool(nested(1000, '{"a":', "}", "1"))))
    yield Bad("1000 levels in a message", VALID.replace(b'"Hi"', nested(1000).encode()))
    yield Bad("1000 levels in metadata", with_field("metadata", nested(1000, '{"a":', "}", "1")))


def repeated() -> Iterator[Bad]:
    """Return keys that occur twice."""
    for name in ("model", "messages", "stream", "temperature", "zz", "tools"):
        values = {"model": '"test/one"', "messages": MESSAGES.decode(), "tools": "[]"}
        value = values.get(name, "null")
        once = with_field(name, value)[:-1].decode()
        yield Bad(f"{name} twice", f'{once},"{name}":{value}}}'.encode(), name)
        yield Bad(f"{name} twice, spaced", f'{once} , "{name}" : {value} }}'.encode(), name)
    escaped = VALID[:-1] + rb',"mod\u0065l":"x/y"}'
    yield Bad("model twice, once escaped", escaped, "model")


def no_numbers() -> Iterator[Bad]:
    """Return numbers that JSON does not have, or that no computer has."""
    for value in ("NaN", "Infinity", "-Infinity", "nan", "inf"):
        for name in ("temperature", "top_p", "n", "seed", "zz"):
            yield Bad(f"{name} {value}", with_field(name, value))
        yield Bad(f"{value} in a list", with_field("zz", f"[1,{value}]"))
        yield Bad(f"{value} in logit_bias", with_field("logit_bias", f'{{"5":{value}}}'))
    for value in ("1e999", "-1e999"):
        for name in ("temperature", "top_p", "presence_penalty", "n", "seed", "max_tokens"):
            yield Bad(f"{name} {value}", with_field(name, value), name)


# What each known field takes: s string, i whole number, f number, b boolean, l list, o object,
# 0 null. Anything else must be refused by name. (OpenAI's API document, "Create chat completion".)
TAKES = {
    "model": "s",
    "stream": "b0",
    "stream_options": "o0",
    "n": "i0",
    "max_tokens": "i0",
    "max_completion_tokens": "i0",
    "temperature": "if0",
    "top_p": "if0",
    "presence_penalty": "if0",
    "frequency_penalty": "if0",
    "logprobs": "b0",
    "top_logprobs": "i0",
    "logit_bias": "o0",
    "stop": "sl0",
    "seed": "i0",
    "tools": "l0",
    "tool_choice": "so0",
    "parallel_tool_calls": "b0",
    "functions": "l0",
    "function_call": "so0",
    "response_format": "o0",
    "reasoning_effort": "s0",
    "verbosity": "s0",
    "modalities": "l0",
    "audio": "o0",
    "prediction": "o0",
    "web_search_options": "o0",
    "metadata": "o0",
    "store": "b0",
    "service_tier": "s0",
    "user": "s0",
    "safety_identifier": "s0",
    "prompt_cache_key": "s0",
}
KINDS = {"s": '"x"', "i": "1", "f": "1.5", "b": "true", "l": "[]", "o": "{}", "0": "null"}


def wrong_kinds() -> Iterator[Bad]:
    """Return every known field with every kind of value it does not take."""
    for name, taken in TAKES.items():
        for kind, value in KINDS.items():
            if kind not in taken:
                yield Bad(f"{name} is {value}", with_field(name, value), name)
    for value in ('"Hi"', "1", "true", "{}", "null", "[]"):
        yield Bad(f"messages is {value}", with_field("messages", value), "messages")


WRONG_VALUES: tuple[tuple[str, str, str], ...] = (
    ("n", "0", "n"),
    ("n", "-1", "n"),
    ("n", "129", "n"),
    ("n", str(10**30), "n"),
    ("n", "1" * 5000, "n"),
    ("max_tokens", str(2**31), "max_tokens"),
    ("max_tokens", str(2**64), "max_tokens"),
    ("max_completion_tokens", str(10**30), "max_completion_tokens"),
    ("temperature", '"0.5"', "temperature"),
    ("seed", str(2**63), "seed"),
    ("seed", str(-(2**63) - 1), "seed"),
    ("stop", "[1]", "stop[0]"),
    ("stop", "[null]", "stop[0]"),
    ("logit_bias", '{"50256":"1"}', "logit_bias"),
    ("model", '""', "model"),
    ("model", json.dumps("m" * 257), "model"),
    ("model", json.dumps("x" * 100_000), "model"),
    ("tools", "[1]", "tools[0]"),
    ("tools", "[{}]", "tools[0].type"),
    ("tools", '[{"type":1}]', "tools[0].type"),
    ("tools", '[{"type":""}]', "tools[0].type"),
    ("tools", '[{"type":"function"}]', "tools[0].function"),
    ("tools", '[{"type":"function","function":[]}]', "tools[0].function"),
    ("tools", '[{"type":"function","function":{}}]', "tools[0].function.name"),
    ("tools", '[{"type":"function","function":{"name":""}}]', "tools[0].function.name"),
    ("tools", '[{"type":"function","function":{"name":5}}]', "tools[0].function.name"),
    ("tools", tool("[]"), "tools[0].function.parameters"),
    ("tools", tool('"{}"'), "tools[0].function.parameters"),
    ("functions", "[{}]", "functions[0].name"),
    ("max_Tokens", "5", "max_Tokens"),
    ("MODEL", '"test/two"', "MODEL"),
    ("me\u017f\u017fages", "[]", "me\u017f\u017fages"),
    ("to\u006fl\u017f", "[]", "tool\u017f"),
    ("maxTokens", "5", "maxTokens"),
    ("response_format", "{}", "response_format.type"),
    ("response_format", '{"type":null}', "response_format.type"),
    ("response_format", '{"type":["json_object"]}', "response_format.type"),
    ("modalities", "[1]", "modalities[0]"),
    ("stream_options", "{}", "stream_options"),
    ("stream_options", '{"include_usage":true}', "stream_options"),
    ("stream_options", '{"include_usage":"yes"}', "stream_options.include_usage"),
    ("stream_options", '{"include_usage":1}', "stream_options.include_usage"),
)

WRONG_MESSAGES: tuple[tuple[str, str], ...] = (
    ("[null]", "messages[0]"),
    ("[1]", "messages[0]"),
    ('["Hi"]', "messages[0]"),
    ("[[]]", "messages[0]"),
    ("[{}]", "messages[0].role"),
    ('[{"content":"Hi"}]', "messages[0].role"),
    ('[{"role":"user"}]', "messages[0].content"),
    ('[{"role":null,"content":"Hi"}]', "messages[0].role"),
    ('[{"role":1,"content":"Hi"}]', "messages[0].role"),
    ('[{"role":"","content":"Hi"}]', "messages[0].role"),
    ('[{"role":"User","content":"Hi"}]', "messages[0].role"),
    ('[{"role":"robot","content":"Hi"}]', "messages[0].role"),
    ('[{"role":["user"],"content":"Hi"}]', "messages[0].role"),
    ('[{"role":"user","content":null}]', "messages[0].content"),
    ('[{"role":"user","content":1}]', "messages[0].content"),
    ('[{"role":"user","content":true}]', "messages[0].content"),
    ('[{"role":"user","content":{}}]', "messages[0].content"),
    ('[{"role":"system","content":null}]', "messages[0].content"),
    ('[{"role":"developer","content":{}}]', "messages[0].content"),
    ('[{"role":"tool","content":"x"}]', "messages[0].tool_call_id"),
    ('[{"role":"tool","tool_call_id":1,"content":"x"}]', "messages[0].tool_call_id"),
    ('[{"role":"tool","tool_call_id":"a"}]', "messages[0].content"),
    ('[{"role":"function","content":"x"}]', "messages[0].name"),
    ('[{"role":"assistant","tool_calls":{}}]', "messages[0].tool_calls"),
    ('[{"role":"assistant","tool_calls":[1]}]', "messages[0].tool_calls[0]"),
    ('[{"role":"assistant","tool_calls":[{}]}]', "messages[0].tool_calls[0].function"),
    (
        '[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":5}}]}]',
        "messages[0].tool_calls[0].function.arguments",
    ),
    (
        '[{"role":"assistant","function_call":{"name":"f","arguments":[1]}}]',
        "messages[0].function_call.arguments",
    ),
    ('[{"role":"user","content":"Hi","role":"system"}]', "messages[0].role"),
    ('[{"role":"user","content":"Hi" , "content" :"Ho"}]', "messages[0].content"),
    ('[{"role":"user","content":"Hi","Content":[]}]', "messages[0].Content"),
    ('[{"role":"user","content":"Hi","images":["file:///etc/passwd"]}]', "messages[0].images[0]"),
    (
        '[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]',
        "messages[0].content[0].text",
    ),
    (
        '[{"role":"user","content":[{"type":"x","image_url":{"url":"data:,a","url":"data:,b"}}]}]',
        "messages[0].content[0].image_url.url",
    ),
    (
        '[{"role":"user","content":[{"type":"text","text":"a","image_url":{"url":"file:///x"}}]}]',
        "messages[0].content[0].image_url.url",
    ),
    ('[{"role":"assistant","refusal":1}]', "messages[0].refusal"),
    ('[{"role":"user","content":["Hi"]}]', "messages[0].content[0]"),
    ('[{"role":"user","content":[null]}]', "messages[0].content[0]"),
    ('[{"role":"user","content":[{}]}]', "messages[0].content[0].type"),
    ('[{"role":"user","content":[{"type":7}]}]', "messages[0].content[0].type"),
    ('[{"role":"user","content":[{"type":"text"}]}]', "messages[0].content[0].text"),
    ('[{"role":"user","content":[{"type":"text","text":5}]}]', "messages[0].content[0].text"),
    ('[{"role":"user","content":[{"type":"image_url"}]}]', "messages[0].content[0].image_url"),
    (
        '[{"role":"user","content":[{"type":"image_url","image_url":"file:///x"}]}]',
        "messages[0].content[0].image_url",
    ),
    (
        '[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]',
        "messages[0].content[0].image_url.url",
    ),
    (
        '[{"role":"user","content":[{"type":"image_url","image_url":{"url":1}}]}]',
        "messages[0].content[0].image_url.url",
    ),
    ('[{"role":"user","content":"Hi"},{"role":"x"}]', "messages[1].role"),
    ('[{"role":"user","content":"Hi"},null]', "messages[1]"),
)


def not_json() -> Iterator[Bad]:
    """Return what is no JSON object."""
    yield from (Bad(name, body) for name, body in NOT_JSON.items())
    yield Bad("an empty object", b"{}", "model")
    yield Bad("no messages", b'{"model":"test/one"}', "messages")
    yield Bad("no model", b'{"messages":%b}' % MESSAGES, "model")


def wrong_values() -> Iterator[Bad]:
    """Return values of the right kind that are out of range, or wrong inside."""
    for name, value, param in WRONG_VALUES:
        yield Bad(f"{name} {value[:60]}", with_field(name, value), param)
    for text, param in WRONG_MESSAGES:
        yield Bad(f"messages {text}", with_field("messages", text), param)


CHAT_BODIES: tuple[Callable[[], Iterator[Bad]], ...] = (
    not_json,
    not_utf8,
    too_deep,
    repeated,
    no_numbers,
    wrong_kinds,
    wrong_values,
)

UNKNOWN_MODELS = (
    "no/such",
    "test/One",
    "test/one ",
    " test/one",
    "test/one\0",
    "test/one/",
    "/test/one",
    "test//one",
    "../test/one",
    "test/one?x=1",
    "test/one#x",
    "test%2Fone",
    "test",
    "upstream-model",
    "one",
    "*",
    "\u202etest/one",
    "tést/one",
    "😀",
    "'; DROP TABLE keys; --",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "http://127.0.0.1:1/v1",
    "a\r\nX-Injected: yes",
    "m" * 256,
)

KEY_BODIES: tuple[tuple[bytes, str | None], ...] = (
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b"null", None),
    (b'"name"', None),
    (b"\xef\xbb\xbf{}", None),
    (b'{"name":"\xff"}', None),
    (b'{"name":"\\ud800"}', None),
    (b'{"name":"x"}x', None),
    (b'{"name":"x","models":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "models[0]"),
    (b'{"name":"x","zz":' + b"[" * 100_000, "zz"),
    (b'{"name":"x","weight":NaN}', None),
    (b"{}", "name"),
    (b'{"name":1}', "name"),
    (b'{"name":null}', "name"),
    (b'{"name":""}', "name"),
    (b'{"name":"%b"}' % (b"n" * 5000), "name"),
    (b'{"name":"a\\u0000b"}', "name"),
    (b'{"name":"x","colour":"red"}', "colour"),
    (b'{"name":"x","key":"roxy_mine"}', "key"),
    (b'{"name":"x","id":"key_mine"}', "id"),
    (b'{"name":"x","models":"test/one"}', "models"),
    (b'{"name":"x","models":[]}', "models"),
    (b'{"name":"x","models":["no/such"]}', "models[0]"),
    (b'{"name":"x","models":["test/one","no/such"]}', "models[1]"),
    (b'{"name":"x","models":[1]}', "models[0]"),
    (b'{"name":"x","weight":0}', "weight"),
    (b'{"name":"x","weight":101}', "weight"),
    (b'{"name":"x","weight":1e999}', "weight"),
    (b'{"name":"x","weight":%d}' % 10**40, "weight"),
    (b'{"name":"x","expires_at":1}', "expires_at"),
    (b'{"name":"x","expires_at":-1}', "expires_at"),
    (b'{"name":"x","expires_at":"tomorrow"}', "expires_at"),
    (b'{"name":"x","expires_at":%d}' % 10**40, "expires_at"),
    (b'{"name":"x","limits":[]}', "limits"),
    (b'{"name":"x","limits":{"rpm":1}}', "limits.rpm"),
    (b'{"name":"x","limits":{"requests_per_minute":0}}', "limits.requests_per_minute"),
    (b'{"name":"x","limits":{"requests_per_minute":-1}}', "limits.requests_per_minute"),
    (b'{"name":"x","limits":{"requests_per_minute":1.5}}', "limits.requests_per_minute"),
    (b'{"name":"x","limits":{"tokens_per_minute":"9"}}', "limits.tokens_per_minute"),
    (b'{"name":"x","limits":{"concurrent_requests":true}}', "limits.concurrent_requests"),
    (b'{"name":"x","limits":{"budget_microusd":%d}}' % 10**30, "limits.budget_microusd"),
    (b'{"name":"x","limits":{"budget_period":"year"}}', "limits.budget_period"),
)

KEY_CHANGES: tuple[tuple[bytes, str | None], ...] = (
    (b"", None),
    (b"[]", None),
    (b'{"status":"revoked"}', "status"),
    (b'{"status":null}', "status"),
    (b'{"name":""}', "name"),
    (b'{"name":null}', "name"),
    (b'{"weight":null}', "weight"),
    (b'{"models":["no/such"]}', "models[0]"),
    (b'{"expires_at":1}', "expires_at"),
    (b'{"limits":{"budget_period":1}}', "limits.budget_period"),
    (b'{"digest":"x"}', "digest"),
)

ROTATIONS: tuple[tuple[bytes, str | None], ...] = (
    (b"x", None),
    (b"[]", None),
    (b'{"grace_s":-1}', "grace_s"),
    (b'{"grace_s":1e999}', "grace_s"),
    (b'{"grace_s":"1"}', "grace_s"),
    (b'{"grace_s":%d}' % 10**30, "grace_s"),
    (b'{"grace":1}', "grace"),
)

ODD_NUMBERS = (
    "",
    "0",
    "00",
    "-1",
    "%2B1",
    "1.0",
    "1.5",
    "1e3",
    "0x10",
    "1_000",
    "x",
    "nan",
    "inf",
    "null",
    "1%002",
    "1%202",
    "1,2",
    "%D9%A3",  # an Arabic-Indic 3
    "%EF%BC%93",  # a full-width 3
    "%C2%B3",  # a superscript 3: isdigit() is true, int() raises
    "%E2%91%A2",  # a circled 3
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    "9" * 40,
    "9" * 5000,
    "0" * 19 + "9" * 40,
    "0" * 20 + str(2**64),
    "0" * 5000 + "1",
)
"""Values of `before` and `limit`, as they stand in a URL; none of them is a row's number."""

USAGE_QUERIES: tuple[tuple[str, str | None], ...] = (
    ("start=x", "start"),
    ("start=2026-13-01", "start"),
    ("start=2026-02-30", "start"),
    ("start=2026-1-1", "start"),
    ("start=2026-01-01T00:00:00Z", "start"),
    ("end=0000-00-00", "end"),
    ("end=0001-01-01&start=0001-01-02", "start"),
    ("start=9999-12-31", "start"),
    ("start=2026-02-01&end=2026-01-01", "start"),
    ("start=0001-01-01&end=9999-12-31", "start"),
    ("start=%D9%A2%D9%A0%D9%A2%D9%A6-01-01", "start"),
    ("group_by=colour", "group_by"),
    ("group_by=day,,key", "group_by"),
    ("group_by=%ff", None),
    ("format=xml", "format"),
    ("format=JSON", "format"),
    ("nope=1", "nope"),
    ("Start=2026-01-01", "Start"),
    ("%ff=1", None),
    ("key=%ff", None),
    ("model=%c3", None),
    ("=1", ""),
    ("&".join(f"a{n}=1" for n in range(2000)), None),
)
