"""Usage is read under every name that upstreams give it, and garbage is refused count by count."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.request.token_usage import Usage, parse_usage

MAX_COUNT = 1_000_000
DETAILED = (
    '{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,'
    '"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2,"audio_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":3}}'
)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ('{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}', Usage(3, 2, 5)),
        ('{"prompt_tokens":3,"completion_tokens":2}', Usage(3, 2)),
        ('{"prompt_tokens":3}', Usage(3)),
        ('{"completion_tokens":0}', Usage(None, 0)),
        (DETAILED, Usage(9, 5, 14, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3)),
        ('{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0}}',
         Usage(9, cached_tokens=0)),
        ('{"prompt_tokens":9,"completion_tokens_details":null}', Usage(9)),
        ('{"prompt_tokens":9,"prompt_cache_hit_tokens":4}', Usage(9, cached_tokens=4)),
        ('{"prompt_tokens":9,"cached_tokens":4}', Usage(9, cached_tokens=4)),
        ('{"prompt_tokens":9,"prompt_tokens_details":[1]}', Usage(9)),
        ('{"prompt_tokens":9,"completion_tokens":"x"}', Usage(9)),
        ("null", None),
        ("{}", None),
        ("[]", None),
        ("5", None),
        ('"x"', None),
        ("{", None),
        ('{"prompt_tokens":-1,"completion_tokens":true}', None),
        ('{"prompt_tokens":1e999}', None),
        ('{"prompt_tokens":' + "9" * 30 + "}", None),
        ("[" * 5000 + "]" * 5000, None),
    ],
)  # fmt: skip
def test_usage_is_read_and_garbage_is_none(raw: str, usage: Usage | None) -> None:
    assert parse_usage(raw.encode(), MAX_COUNT) == usage


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        # Names
        ({"input_tokens": 9, "output_tokens": 5}, Usage(9, 5)),
        ({"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}, Usage(9, 5, 14)),
        ({"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14},
         Usage(9, 5, 14)),
        ({"prompt_token_count": 9, "candidates_token_count": 5}, Usage(9, 5)),
        ({"inputTokenCount": 9, "outputTokenCount": 5}, Usage(9, 5)),
        ({"prompt_eval_count": 9, "eval_count": 5}, Usage(9, 5)),
        ({"tokens_in": 9, "tokens_out": 5}, Usage(9, 5)),
        ({"num_prompt_tokens": 9, "num_generated_tokens": 5}, Usage(9, 5)),
        ({"total_input_tokens": 9, "total_output_tokens": 5}, Usage(9, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 9, "output_tokens": 5},
         Usage(9, 5)),
        # Kinds of number
        ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, Usage(9, 5)),
        ({"prompt_tokens": 8.2, "completion_tokens": "5"}, Usage(9, 5)),
        ({"prompt_tokens": "9.0", "completion_tokens": " 4.5 "}, Usage(9, 5)),
        ({"prompt_tokens": "1,009", "completion_tokens": "100,005"}, Usage(1009, 100_005)),
        ({"prompt_tokens": "1,09", "completion_tokens": "1,0005"}, None),
        ({"prompt_tokens": "nine", "completion_tokens": "-5"}, None),
        ({"prompt_tokens": None, "completion_tokens": 5}, Usage(None, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(None, 0)),
        ({"prompt_tokens": [9], "completion_tokens": {"value": 5}}, None),
        # Absurd numbers, each refused alone
        ({"prompt_tokens": MAX_COUNT, "completion_tokens": MAX_COUNT + 1}, Usage(MAX_COUNT)),
        ({"prompt_tokens": 2**53 - 1, "completion_tokens": 5}, Usage(None, 5)),
        ({"prompt_tokens": MAX_COUNT + 1, "completion_tokens": 5, "total_tokens": MAX_COUNT + 6},
         Usage(None, 5)),
        ({"prompt_tokens": 9, "completion_tokens": MAX_COUNT + 1, "total_tokens": MAX_COUNT + 10},
         Usage(9)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 2**62}, Usage(9, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 1e300}, Usage(9, 5)),
        ({"prompt_tokens": "9" * 40, "completion_tokens": 5}, Usage(None, 5)),
        # Thinking beside the completion
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 34}, Usage(9, 25, 34)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 20},
         Usage(9, 25, reasoning_tokens=20)),
        ({"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 20,
          "totalTokenCount": 34}, Usage(9, 25, 34, reasoning_tokens=20)),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 20, "totalTokenCount": 29},
         Usage(9, 20, 29, reasoning_tokens=20)),
        ({"prompt_tokens": 9, "completion_tokens": 5,
          "completion_tokens_details": {"reasoning_tokens": 5}}, Usage(9, 5, reasoning_tokens=5)),
        ({"promptTokenCount": 9, "toolUsePromptTokenCount": 3, "candidatesTokenCount": 5,
          "totalTokenCount": 17}, Usage(12, 5, 17)),
        # One count and the total
        ({"prompt_tokens": 9, "total_tokens": 14}, Usage(9, 5, 14)),
        ({"completion_tokens": 5, "total_tokens": 14}, Usage(9, 5, 14)),
        ({"total_tokens": 14}, Usage(None, None, 14)),
        ({"prompt_tokens": 9, "total_tokens": 3}, Usage(9, None, 3)),
        # Caches
        ({"input_tokens": 9, "output_tokens": 5, "cache_read_input_tokens": 4,
          "cache_creation_input_tokens": 2}, Usage(15, 5, None, 4, 2)),
        ({"input_tokens": 9, "output_tokens": 5, "total_tokens": 14,
          "cache_read_input_tokens": 4}, Usage(9, 5, 14, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "cache_read_input_tokens": 4},
         Usage(9, 5, None, 4)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "cache_read_input_tokens": 4},
         Usage(7, 5, None, 4)),
        ({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
          "output_tokens_details": {"reasoning_tokens": 3}}, Usage(9, 5, None, 4, None, 3)),
        ({"promptTokenCount": 9, "candidatesTokenCount": 5, "cachedContentTokenCount": 4},
         Usage(9, 5, None, 4)),
        ({"inputTokens": 9, "outputTokens": 5, "cacheReadInputTokens": 4,
          "cacheWriteInputTokens": 2}, Usage(15, 5, None, 4, 2)),
        ({"input_tokens": 9, "output_tokens": 5,
          "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}},
         Usage(12, 5, None, None, 3)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details":
          {"cached_tokens": 1, "cached_creation_tokens": 2}}, Usage(9, 5, None, 1, 2)),
    ],
)  # fmt: skip
def test_the_same_counts_are_read_under_other_names_and_in_other_shapes(
    told: dict[str, Any], usage: Usage | None
) -> None:
    assert parse_usage(json.dumps(told).encode(), MAX_COUNT) == usage


@pytest.mark.parametrize(
    ("first", "later", "merged"),
    [
        (Usage(9, 5, 14), Usage(9, 7, 16), Usage(9, 7, 16)),
        (Usage(9, 5, 14), Usage(None, 0, 0), Usage(9, 5, 14)),
        (Usage(9, 5, 14), Usage(4, 2, 6), Usage(9, 5, 14)),
        (Usage(9, 1), Usage(None, 7), Usage(9, 7)),
        (Usage(9, 5, cached_tokens=4), Usage(9, 6), Usage(9, 6, cached_tokens=4)),
    ],
)
def test_a_smaller_or_missing_report_replaces_nothing(
    first: Usage, later: Usage, merged: Usage
) -> None:
    assert first.merged(later) == merged


@pytest.mark.parametrize(
    ("usage", "has_text", "filled"),
    [
        (Usage(9, 5), True, None),
        (Usage(9, 0), False, None),
        (Usage(9, 0), True, Usage(9, 50)),
        (Usage(9), True, Usage(9, 50)),
        (Usage(9), False, Usage(9, 50)),
        (Usage(None, 5), True, Usage(40, 5)),
        (Usage(), True, Usage(40, 50)),
        (Usage(None, None, 70), True, Usage(20, 50, 70)),
        (Usage(None, None, 30), True, Usage(0, 30, 30)),
    ],
)
def test_only_missing_counts_are_estimated(
    usage: Usage, has_text: bool, filled: Usage | None
) -> None:
    assert usage.is_missing_any(has_text) is (filled is not None)
    if filled is not None:
        assert usage.filled(40, 50) == filled


NAMES = st.sampled_from(
    ["prompt_tokens", "outputTokens", "total_tokens", "cache_read_input_tokens", "cache_creation",
     "prompt_tokens_details", "reasoning_tokens", "usage"]
)  # fmt: skip
VALUES = st.recursive(
    st.sampled_from([None, True, -1, 0, 1, 7.5, 1e300, 2**53, 10**40, "7", "x", [], [1]]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_is_reported_no_count_is_absurd(told: dict[str, Any]) -> None:
    usage = parse_usage(json.dumps(told).encode(), MAX_COUNT)
    if usage is not None:
        counts = [getattr(usage, name) for name in usage.__struct_fields__]
        assert all(count is None or 0 <= count <= 3 * MAX_COUNT for count in counts)
