"""Examples for the owner: keys, usage, the request log, the live view."""

from __future__ import annotations

from webui.docs.parts import Example

KEYS = Example(
    "keys",
    {
        "curl": r"""curl BASE_URL/api/v1/keys \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Ada, laptop",
    "models": ["MODEL_ID"],
    "limits": {
      "requests_per_minute": 30,
      "budget_microusd": 5000000,
      "budget_period": "month"
    }
  }'""",
        "python": r"""import os
import httpx

response = httpx.post(
    "BASE_URL/api/v1/keys",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
    json={
        "name": "Ada, laptop",
        "models": ["MODEL_ID"],
        "limits": {
            "requests_per_minute": 30,
            "budget_microusd": 5_000_000,
            "budget_period": "month",
        },
    },
)
if response.is_error:
    raise SystemExit(response.text)
key = response.json()
print(key["id"], key["redacted"])  # key["key"] is the secret""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/keys", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    name: "Ada, laptop",
    models: ["MODEL_ID"],
    limits: {
      requests_per_minute: 30,
      budget_microusd: 5_000_000,
      budget_period: "month",
    },
  }),
});
if (!response.ok) throw new Error(await response.text());
const key = await response.json();
console.log(key.id, key.redacted); // key.key is the secret""",
    },
)

KEY_LIFE = Example(
    "key-life",
    {
        "curl": r"""KEY_ID=$(curl -s BASE_URL/api/v1/keys \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"name": "Short-lived"}' | grep -o 'key_[0-9A-Za-z]*' | head -n 1)

curl -X PATCH "BASE_URL/api/v1/keys/$KEY_ID" \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"limits": {"requests_per_minute": 5}}'

curl -X POST "BASE_URL/api/v1/keys/$KEY_ID/rotate" \
  -H "Authorization: Bearer $ROXY_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"grace_s": 3600}'

curl -X DELETE "BASE_URL/api/v1/keys/$KEY_ID" \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

api = httpx.Client(
    base_url="BASE_URL/api/v1/",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
)
made = api.post("keys", json={"name": "Short-lived"})
if made.is_error:
    raise SystemExit(made.text)
path = f"keys/{made.json()['id']}"

changed = api.patch(path, json={"limits": {"requests_per_minute": 5}}).json()
print(changed["limits"])
rotated = api.post(f"{path}/rotate", json={"grace_s": 3600}).json()
print("The old secret is valid until", rotated["previous_valid_until"])
revoked = api.delete(path).json()
print(revoked["status"])""",
        "javascript": r"""async function call(method, path, body) {
  const response = await fetch(`BASE_URL/api/v1/${path}`, {
    method,
    headers: {
      Authorization: `Bearer ${process.env.ROXY_API_KEY}`,
      "Content-Type": "application/json",
    },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const { id } = await call("POST", "keys", { name: "Short-lived" });
const changed = await call("PATCH", `keys/${id}`, { limits: { requests_per_minute: 5 } });
console.log(changed.limits);
const rotated = await call("POST", `keys/${id}/rotate`, { grace_s: 3600 });
console.log("The old secret is valid until", rotated.previous_valid_until);
console.log((await call("DELETE", `keys/${id}`)).status);""",
    },
)

USAGE = Example(
    "usage",
    {
        "curl": r"""curl "BASE_URL/api/v1/usage?group_by=day,model&format=csv" \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

response = httpx.get(
    "BASE_URL/api/v1/usage",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
    params={"group_by": "day,model"},
)
if response.is_error:
    raise SystemExit(response.text)
for row in response.json()["data"]:
    dollars = row["cost_microusd"] / 1_000_000
    print(row["day"], row["model"], row["requests"], f"${dollars:.4f}")""",
        "javascript": r"""const response = await fetch("BASE_URL/api/v1/usage?group_by=day,model", {
  headers: { Authorization: `Bearer ${process.env.ROXY_API_KEY}` },
});
if (!response.ok) throw new Error(await response.text());
for (const row of (await response.json()).data) {
  const dollars = row.cost_microusd / 1_000_000;
  console.log(row.day, row.model, row.requests, `$${dollars.toFixed(4)}`);
}""",
    },
)

WATCH = Example(
    "watch",
    {
        "curl": r"""curl "BASE_URL/api/v1/requests?limit=5" \
  -H "Authorization: Bearer $ROXY_API_KEY"

curl BASE_URL/api/v1/live \
  -H "Authorization: Bearer $ROXY_API_KEY" """.rstrip(),
        "python": r"""import os
import httpx

api = httpx.Client(
    base_url="BASE_URL/api/v1/",
    headers={"Authorization": "Bearer " + os.environ["ROXY_API_KEY"]},
)
response = api.get("requests", params={"limit": 5})
if response.is_error:
    raise SystemExit(response.text)
for row in response.json()["data"]:
    print(row["id"], row["key_name"], row["model"], row["status"], row["ttft_ms"])
for model in api.get("live").json()["models"]:
    print(model["id"], model["running"], "running,", model["queued"], "waiting")""",
        "javascript": r"""const headers = { Authorization: `Bearer ${process.env.ROXY_API_KEY}` };
const log = await fetch("BASE_URL/api/v1/requests?limit=5", { headers });
if (!log.ok) throw new Error(await log.text());
for (const row of (await log.json()).data) {
  console.log(row.id, row.key_name, row.model, row.status, row.ttft_ms);
}
const live = await fetch("BASE_URL/api/v1/live", { headers });
for (const model of (await live.json()).models) {
  console.log(model.id, model.running, "running,", model.queued, "waiting");
}""",
    },
)
