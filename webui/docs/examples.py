"""The basic examples of the documentation. Tests run every example unchanged.

Examples read the key from the variable ROXY_API_KEY, so no page contains a key. `BASE_URL` and
`MODEL_ID` are placeholders (`Values.fill`). The title of an example is the text of the group
`examples` that has the example's id as its name.
"""

from __future__ import annotations

from webui.docs.parts import Example

RED_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mO4oKCA"
    "FTEMLQkAvk5EAYUHFA8AAAAASUVORK5CYII="
)
"""An 8 by 8 pixel PNG as a data URL."""

KEY = Example(
    "key",
    {"curl": "read -rs ROXY_API_KEY && export ROXY_API_KEY"},
)

FIRST = Example(
    "first",
    {
        "curl": r"""curl BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "MODEL_ID",
    "messages": [
      {"role": "user", "content": "Say hello."}
    ]
  }'""",
        "python": r"""import os
from openai import OpenAI  # pip install openai

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
answer = client.chat.completions.create(
    model="MODEL_ID",
    messages=[
        {"role": "user", "content": "Say hello."},
    ],
)
print(answer.choices[0].message.content)""",
        "javascript": r"""// The openai package: new OpenAI({ baseURL: "BASE_URL/api/v1", apiKey })
const response = await fetch("BASE_URL/api/v1/chat/completions", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    model: "MODEL_ID",
    messages: [{ role: "user", content: "Say hello." }],
  }),
});
if (!response.ok) throw new Error(await response.text());
const answer = await response.json();
console.log(answer.choices[0].message.content);""",
    },
)

STREAM = Example(
    "stream",
    {
        "curl": r"""curl -N BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "MODEL_ID",
    "stream": true,
    "stream_options": {"include_usage": true},
    "messages": [
      {"role": "user", "content": "A haiku on rivers."}
    ]
  }'""",
        "python": r"""import os
from openai import OpenAI

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
stream = client.chat.completions.create(
    model="MODEL_ID",
    stream=True,
    stream_options={"include_usage": True},
    messages=[
        {"role": "user", "content": "A haiku on rivers."},
    ],
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n{chunk.usage.total_tokens} tokens")""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/chat/completions", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    model: "MODEL_ID",
    stream: true,
    stream_options: { include_usage: true },
    messages: [{ role: "user", content: "A haiku on rivers." }],
  }),
});
if (!response.ok) throw new Error(await response.text());

const decoder = new TextDecoder();
let rest = "";
for await (const bytes of response.body) {
  const events = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
  rest = events.pop();
  for (const event of events) {
    if (!event.startsWith("data: {")) continue; // a comment, or [DONE]
    const chunk = JSON.parse(event.slice(6));
    if (chunk.error) throw new Error(chunk.error.message);
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
    if (chunk.usage) console.log(`\n${chunk.usage.total_tokens} tokens`);
  }
}""",
    },
    run="chat",
)
STREAM_REQUEST = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "A haiku on rivers."}],
}
"""The request that the page sends for this example; the page adds the model."""

MODELS = Example(
    "models",
    {
        "curl": r"""curl BASE_URL/api/v1/models \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
from openai import OpenAI

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
for model in client.models.list():
    print(model.id, model.context_window, model.available)""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/models", {
  headers: { Authorization: `Bearer ${process.env.ROXY_API_KEY}` },
});
if (!response.ok) throw new Error(await response.text());
for (const model of (await response.json()).data) {
  console.log(model.id, model.context_window, model.available);
}""",
    },
    run="models",
)

OWN_KEY = Example(
    "own-key",
    {
        "curl": r"""curl BASE_URL/api/v1/key \
  -H "x-api-key: $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

response = httpx.get(
    "BASE_URL/api/v1/key",
    headers={"x-api-key": os.environ["ROXY_API_KEY"]},
)
if response.is_error:
    raise SystemExit(response.text)
print(response.json()["kind"], response.json()["remaining"])""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/key", {
  headers: { "x-api-key": process.env.ROXY_API_KEY },
});
if (!response.ok) throw new Error(await response.text());
const { kind, remaining } = await response.json();
console.log(kind, remaining);""",
    },
)

LIMITS = Example(
    "limits",
    {
        "curl": r"""curl -s -o /dev/null -D - BASE_URL/api/v1/models \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

response = httpx.get(
    "BASE_URL/api/v1/models",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
)
if response.is_error:
    raise SystemExit(response.text)
for name, value in response.headers.items():
    if name.startswith("x-ratelimit-"):
        print(name, value)""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/models", {
  headers: { Authorization: `Bearer ${process.env.ROXY_API_KEY}` },
});
if (!response.ok) throw new Error(await response.text());
for (const [name, value] of response.headers) {
  if (name.startsWith("x-ratelimit-")) console.log(name, value);
}""",
    },
)

ERRORS = Example(
    "errors",
    {
        "curl": r"""curl -w '\nHTTP status %{http_code}\n' BASE_URL/api/v1/models/no/such-model \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
from openai import APIStatusError, OpenAI

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
try:
    client.chat.completions.create(
        model="no/such-model",
        messages=[{"role": "user", "content": "Hello"}],
    )
except APIStatusError as error:
    print(error.status_code, error.code, error.body["message"])
    print("Retry after:", error.response.headers.get("retry-after"))""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/models/no/such-model", {
  headers: { Authorization: `Bearer ${process.env.ROXY_API_KEY}` },
});
if (!response.ok) {
  const { error } = await response.json();
  console.log(response.status, error.code, error.message);
  console.log("Retry after:", response.headers.get("retry-after"));
}""",
    },
)

OPENAPI = Example(
    "openapi",
    {
        "curl": "curl -o openapi.json BASE_URL/api/v1/openapi.json",
        "python": r"""import httpx

document = httpx.get("BASE_URL/api/v1/openapi.json").json()
for path, methods in document["paths"].items():
    print(path, *methods)""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/openapi.json");
const { paths } = await response.json();
for (const [path, methods] of Object.entries(paths)) {
  console.log(path, ...Object.keys(methods));
}""",
    },
)
