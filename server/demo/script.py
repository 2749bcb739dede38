"""The words of the demo upstream. They say plainly that no model is behind them."""

from __future__ import annotations

COMMANDS = {
    "think": "reasons for a while before it answers",
    "slow": "waits 12 seconds, so that heartbeats can be seen, and then dawdles",
    "long": "answers at length",
    "cut": "breaks the connection in the middle of the answer",
    "fail": "reports an error in the middle of the answer",
    "hang": "falls silent in the middle of the answer",
    "error 429": "refuses with that HTTP status (any from 400 to 599)",
    "help": "lists these",
}

FIRST = """\
## Hello from the demo upstream

> You asked: {shown}
{extras}
I am **not a model**. I am a script inside Roxy AI that stands in for `{model}` and speaks the \
same wire format as a real provider, so that you can watch the whole way work without an account.

### What just happened

1. The gateway checked who you are and took one request from your limit.
2. Your request waited for its fair turn in the queue of this model.
3. A worker opened a stream upstream, and these words came back token by token.

### Put a real model here

Set one provider key and start the gateway again without `--demo`:

```bash
export OPENROUTER_API_KEY="your key"
roxy serve
```

### Try to break it

{commands}

Each of these shows how the gateway deals with an upstream in trouble.
"""

LATER = """\
## Turn {turn}, still the demo

> You said: {shown}
{extras}
I am a script, **not a model**, so I cannot really answer. What I can tell about our conversation:

| What | How many |
| --- | --- |
| Messages so far | {messages} |
| Words in your last one | {words} |

- The whole conversation came with this request, as chat APIs keep nothing between turns.
- The usage below counts it all again: long chats cost more with every turn.

```python
words = {words}
print(f"Your last message had {{words}} words.")
```

Say `demo: help` to see what else I can do.
"""

TOOL_RESULT = """\
## What the tool said

{results}

I am the demo upstream and no model: I quote the result and draw no conclusion from it. A real \
model would use it to answer “{shown}”.
"""

HELP = """\
## Commands of the demo upstream

{commands}

I am a script, not a model; anything else you say gets a canned answer.
"""

LONG_PARAGRAPH = """
### Part {number}

This is paragraph {number} of a long answer that no model wrote. It is here so that you can scroll \
while text arrives, stop in the middle, or close the window: the gateway then stops the upstream \
at once and counts only what was sent.
"""

THOUGHTS = """\
The user asks: {shown} \
I should remember that I am the demo upstream and no model, so this is a script that shows what \
reasoning looks like while it streams. First I would look at what is asked. Then I would weigh \
a few ways to answer it. Having weighed nothing at all, I begin."""

TOOL_THOUGHTS = "There are tools in this request, so I call one and make up its arguments."


def commands_table() -> str:
    """Give the commands as a Markdown table."""
    rows = [f"| `demo: {name}` | {does} |" for name, does in COMMANDS.items()]
    return "\n".join(["| Say | The upstream |", "| --- | --- |", *rows])


def long_answer() -> str:
    """Give some 1,500 tokens."""
    parts = (LONG_PARAGRAPH.format(number=number) for number in range(1, 21))
    return "## A long answer from the demo upstream\n" + "".join(parts)
