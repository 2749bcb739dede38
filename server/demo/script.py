"""The texts of the demo upstream. They state plainly that they come from no model."""

from __future__ import annotations

COMMANDS = {
    "think": "reasons for a while before it answers",
    "slow": "waits 12 seconds, so that heartbeats can be seen, then answers slowly",
    "long": "answers at length",
    "cut": "breaks the connection in the middle of the answer",
    "fail": "reports an error in the middle of the answer",
    "hang": "stops sending in the middle of the answer",
    "error 429": "refuses with that HTTP status (any from 400 to 599)",
    "shape NAME": "answers like a real upstream that does not keep to the schema; see /docs",
    "help": "lists these",
}

TITLE_WANTED = "Write a title for the conversation"
"""How the instruction begins with which the chat asks for a title (`titling.js`)."""
TITLE = "Demo: {words}"
TITLE_WORDS = 5

FIRST = """\
## Hello from the demo upstream

> You asked: {shown}
{extras}
I am **not a model**. I am a script inside Roxy AI that stands in for `{model}` and uses the \
same wire format as a real provider, so that you can see the whole path work without an account.

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

Each command shows how the gateway handles an upstream that fails.
"""

LATER = """\
## Turn {turn}, still the demo

> You said: {shown}
{extras}
I am a script, **not a model**, so I cannot really answer. Here are the figures of our conversation:

| What | How many |
| --- | --- |
| Messages so far | {messages} |
| Words in your last one | {words} |

- This request contained the whole conversation, because chat APIs keep nothing between turns.
- The usage below counts all of it again: long chats cost more with every turn.

```python
words = {words}
print(f"Your last message had {{words}} words.")
```

Say `demo: help` to see what else I can do.
"""

TOOL_RESULT = """\
## What the tool said

{results}

I am the demo upstream, not a model: I quote the result and draw no conclusion from it. A real \
model would use it to answer “{shown}”.
"""

HELP = """\
## Commands of the demo upstream

{commands}

I am a script, not a model; any other message gets a fixed answer.
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
reasoning looks like while it streams. First I would read the question. Then I would weigh \
a few ways to answer it. I have weighed nothing at all, so I begin."""

TOOL_THOUGHTS = "This request has tools, so I call one with made-up arguments."


def commands_table() -> str:
    """Return the commands as a Markdown table."""
    rows = [f"| `demo: {name}` | {does} |" for name, does in COMMANDS.items()]
    return "\n".join(["| Say | The upstream |", "| --- | --- |", *rows])


def long_answer() -> str:
    """Return a text of about 1,500 tokens."""
    parts = (LONG_PARAGRAPH.format(number=number) for number in range(1, 21))
    return "## A long answer from the demo upstream\n" + "".join(parts)
