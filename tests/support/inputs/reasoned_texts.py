"""Texts of answers with reasoning in them, as upstreams without a reasoning parser send them."""

from __future__ import annotations

MARKED = {
    "<think>\nHm.\n</think>\n\nYes.": ("Hm.", "Yes."),
    "\n<think>Hm, 2 < 3.</think>Yes.": ("Hm, 2 < 3.", "Yes."),
    "<think>\n\n</think>\n\nYes.": ("", "Yes."),
    "<thinking>Hm.</thinking> Yes, </think> too.": ("Hm.", "Yes, </think> too."),
    "<think>One.</think>\n<think>Two.</think>\n# Yes": ("One.\n\nTwo.", "# Yes"),
    "<think>Hm.</think>\n\n<table>": ("Hm.", "<table>"),
    "<seed:think>Hm.</seed:think>Yes.": ("Hm.", "Yes."),
    "[THINK]Hm.[/THINK]Yes.": ("Hm.", "Yes."),
    "<|START_THINKING|>Hm.<|END_THINKING|>Yes.": ("Hm.", "Yes."),
    "<|channel|>analysis<|message|>Hm.<|end|>Yes.": ("Hm.", "Yes."),
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.": (
        "Hm.",
        "Yes.",
    ),
    "<think>\n```\nx\n```\n</think>\nYes.": ("```\nx\n```", "Yes."),
    "<think>It never ends": ("It never ends", ""),
}
"""Reasoning behind a first mark: what is reasoning, and what the answer is."""

ENDED = {
    "Hm.\n</think>\n\nYes.": ("Hm.", "Yes."),
    "Try:\n```\nx\n```\nGood.\n</think>\n\n```\n</think>\n```": (
        "Try:\n```\nx\n```\nGood.",
        "```\n</think>\n```",
    ),
}
"""The first mark was in the prompt."""

PLAIN = (
    "Yes.",
    "It ends with </think> there.",
    "So:\n\n```xml\n<think>\nHm.\n</think>\n```\n\nThat is all.",
    "~~~\n</think>",
    "The model writes <think>Hm.</think> first.",
    "> <think>Hm.</think>",
    "<th>",
    "<",
    "[THIN",
    "[think](https://example.org)",
    "<thinker></thinker>",
    "",
)
"""No reasoning at all."""
