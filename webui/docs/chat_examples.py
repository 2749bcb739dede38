"""Examples of chat completions: tools, images, the queue, kept answers."""

from __future__ import annotations

from webui.docs.examples import RED_SQUARE
from webui.docs.parts import Example

TOOLS = Example(
    "tools",
    {
        "curl": r"""curl BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "MODEL_ID",
    "messages": [
      {"role": "user", "content": "What is the weather in Oslo?"}
    ],
    "tools": [{
      "type": "function",
      "function": {
        "name": "weather",
        "description": "Return the weather of a city.",
        "parameters": {
          "type": "object",
          "properties": {"city": {"type": "string"}},
          "required": ["city"]
        }
      }
    }]
  }'""",
        "python": r"""import json
import os
from openai import OpenAI

def weather(city):
    return f"18 degrees and dry in {city}"

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
tools = [{
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}]
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
while True:
    answer = client.chat.completions.create(
        model="MODEL_ID", messages=messages, tools=tools
    )
    message = answer.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        result = weather(**json.loads(call.function.arguments))
        messages.append(
            {"role": "tool", "tool_call_id": call.id, "content": result}
        )
print(message.content)""",
        "javascript": r"""const weather = ({ city }) => `18 degrees and dry in ${city}`;
const tools = [{
  type: "function",
  function: {
    name: "weather",
    description: "Return the weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
}];
const messages = [{ role: "user", content: "What is the weather in Oslo?" }];

async function ask() {
  const response = await fetch("BASE_URL/api/v1/chat/completions", {
    method: "POST",
    headers: {
      Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ model: "MODEL_ID", messages, tools }),
  });
  if (!response.ok) throw new Error(await response.text());
  const { message } = (await response.json()).choices[0];
  messages.push(message);
  return message;
}

let message = await ask();
while (message.tool_calls?.length) {
  for (const call of message.tool_calls) {
    const content = weather(JSON.parse(call.function.arguments));
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
  message = await ask();
}
console.log(message.content);""",
    },
)

STRUCTURED = Example(
    "structured",
    {
        "curl": r"""curl BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "MODEL_ID",
    "messages": [
      {"role": "user", "content": "Name a city in Norway."}
    ],
    "response_format": {
      "type": "json_schema",
      "json_schema": {
        "name": "city",
        "strict": true,
        "schema": {
          "type": "object",
          "properties": {"city": {"type": "string"}},
          "required": ["city"],
          "additionalProperties": false
        }
      }
    }
  }'""",
        "python": r"""import json
import os
from openai import OpenAI

client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
schema = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model="MODEL_ID",
    messages=[{"role": "user", "content": "Name a city in Norway."}],
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "city", "strict": True, "schema": schema},
    },
)
try:
    print(json.loads(answer.choices[0].message.content)["city"])
except (TypeError, ValueError, KeyError):
    print("not as the schema says:", answer.choices[0].message)""",
        "javascript": r"""const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const response = await fetch("BASE_URL/api/v1/chat/completions", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    model: "MODEL_ID",
    messages: [{ role: "user", content: "Name a city in Norway." }],
    response_format: {
      type: "json_schema",
      json_schema: { name: "city", strict: true, schema },
    },
  }),
});
if (!response.ok) throw new Error(await response.text());
const { message } = (await response.json()).choices[0];
console.log(JSON.parse(message.content).city);""",
    },
)

_IMAGE = {
    "curl": r"""curl BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "IMAGE_MODEL_ID",
    "messages": [{
      "role": "user",
      "content": [
        {"type": "text", "text": "What colour is this?"},
        {"type": "image_url", "image_url": {"url": "IMAGE_URL"}}
      ]
    }]
  }'""",
    "python": r"""import os
from openai import OpenAI

# From a file: "data:image/png;base64," + base64.b64encode(data).decode()
image = "IMAGE_URL"
client = OpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
)
answer = client.chat.completions.create(
    model="IMAGE_MODEL_ID",
    messages=[{
        "role": "user",
        "content": [
            {"type": "text", "text": "What colour is this?"},
            {"type": "image_url", "image_url": {"url": image}},
        ],
    }],
)
print(answer.choices[0].message.content)""",
    "javascript": r"""// From a file: `data:image/png;base64,${buffer.toString("base64")}`
const image = "IMAGE_URL";
const response = await fetch("BASE_URL/api/v1/chat/completions", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    model: "IMAGE_MODEL_ID",
    messages: [{
      role: "user",
      content: [
        { type: "text", text: "What colour is this?" },
        { type: "image_url", image_url: { url: image } },
      ],
    }],
  }),
});
if (!response.ok) throw new Error(await response.text());
const answer = await response.json();
console.log(answer.choices[0].message.content);""",
}
IMAGE = Example(
    "image",
    {language: code.replace("IMAGE_URL", RED_SQUARE) for language, code in _IMAGE.items()},
)

QUEUE = Example(
    "queue",
    {
        "curl": r"""curl -N BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -H "X-Roxy-Max-Wait: 30" \
  -H "X-Roxy-Queue-Updates: true" \
  -d '{
    "model": "MODEL_ID",
    "stream": true,
    "messages": [{"role": "user", "content": "Hello"}]
  }'""",
        "python": r"""import json
import os
import httpx

with httpx.stream(
    "POST",
    "BASE_URL/api/v1/chat/completions",
    headers={
        "Authorization": "Bearer " + os.environ["ROXY_API_KEY"],
        "X-Roxy-Max-Wait": "30",
        "X-Roxy-Queue-Updates": "true",
    },
    json={
        "model": "MODEL_ID",
        "stream": True,
        "messages": [{"role": "user", "content": "Hello"}],
    },
    timeout=60,
) as response:
    if response.is_error:
        raise SystemExit(response.read().decode())
    for line in response.iter_lines():
        if line.startswith(": queued"):
            print(line.removeprefix(": "))
        elif line.startswith("data: {"):
            chunk = json.loads(line.removeprefix("data: "))
            for choice in chunk.get("choices", []):
                print(choice["delta"].get("content") or "", end="")""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/chat/completions", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
    "X-Roxy-Max-Wait": "30",
    "X-Roxy-Queue-Updates": "true",
  },
  body: JSON.stringify({
    model: "MODEL_ID",
    stream: true,
    messages: [{ role: "user", content: "Hello" }],
  }),
});
if (!response.ok) throw new Error(await response.text());
const decoder = new TextDecoder();
for await (const bytes of response.body) {
  process.stdout.write(decoder.decode(bytes, { stream: true }));
}""",
    },
)

KEPT = Example(
    "kept",
    {
        "curl": r"""JOB="docs-$(date +%s)-$$"

# Send the request and disconnect after two seconds.
curl -N --max-time 2 BASE_URL/api/v1/chat/completions \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -H "X-Request-Id: $JOB" \
  -H "X-Roxy-Keep: true" \
  -d '{
    "model": "MODEL_ID",
    "stream": true,
    "messages": [{"role": "user", "content": "Tell me a story."}]
  }'

# Resume: all events so far, then new ones as they arrive.
curl -N "BASE_URL/api/v1/jobs/$JOB/stream?after=0" \
  -H "Authorization: Bearer $ROXY_API_KEY"

# Get its outcome and usage.
curl "BASE_URL/api/v1/jobs/$JOB" \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

api = httpx.Client(
    base_url="BASE_URL/api/v1/",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
    timeout=60,
)
body = {
    "model": "MODEL_ID",
    "stream": True,
    "messages": [{"role": "user", "content": "Tell me a story."}],
}
seen = 0
keep = {"X-Roxy-Keep": "true"}
with api.stream("POST", "chat/completions", json=body, headers=keep) as response:
    if response.is_error:
        raise SystemExit(response.read().decode())
    job = response.headers["x-request-id"]
    for line in response.iter_lines():
        if line.startswith("data: "):
            seen += 1
        if seen == 2:
            break  # the connection is lost

with api.stream("GET", f"jobs/{job}/stream?after={seen}") as response:
    for line in response.iter_lines():
        if line.startswith("data: "):
            print(line.removeprefix("data: "))
print(api.get(f"jobs/{job}").json()["state"])""",
        "javascript": r"""const api = "BASE_URL/api/v1";
const headers = {
  Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
  "Content-Type": "application/json",
};
const asked = await fetch(`${api}/chat/completions`, {
  method: "POST",
  headers: { ...headers, "X-Roxy-Keep": "true" },
  body: JSON.stringify({
    model: "MODEL_ID",
    stream: true,
    messages: [{ role: "user", content: "Tell me a story." }],
  }),
});
if (!asked.ok) throw new Error(await asked.text());
const job = asked.headers.get("x-request-id");
await asked.body.cancel(); // the connection is lost

const again = await fetch(`${api}/jobs/${job}/stream?after=0`, { headers });
console.log(await again.text());
const state = await fetch(`${api}/jobs/${job}`, { headers });
console.log((await state.json()).state);""",
    },
)
