"""List programs that people use with the gateway, and what to copy for each.

What to do with it is the text of the group `recipes` that has the program's id as its name.
`BASE_URL`, `MODEL_ID` and `CONTEXT_TOKENS` are placeholders (`Values.fill`).
"""

from __future__ import annotations

from webui.docs.parts import Recipe

OPEN_WEBUI = Recipe(
    "open-webui",
    "Open WebUI",
    "sh",
    r"""docker run -d --name open-webui -p 3000:8080 \
  -v open-webui:/app/backend/data \
  -e OPENAI_API_BASE_URL=BASE_URL/api/v1 \
  -e OPENAI_API_KEY="$ROXY_API_KEY" \
  ghcr.io/open-webui/open-webui:main""",
)

LIBRECHAT = Recipe(
    "librechat",
    "LibreChat",
    "yaml",
    """endpoints:
  custom:
    - name: "Roxy"
      apiKey: "${ROXY_API_KEY}"
      baseURL: "BASE_URL/api/v1"
      models:
        default: ["MODEL_ID"]
        fetch: true
      titleConvo: true
      titleModel: "MODEL_ID"
      modelDisplayLabel: "Roxy" """.rstrip(),
)

CURSOR = Recipe(
    "cursor",
    "Cursor",
    "text",
    """Base URL: BASE_URL/api/v1
Model:    MODEL_ID""",
)

CLINE = Recipe(
    "cline",
    "Cline",
    "text",
    """Base URL:            BASE_URL/api/v1
Model ID:            MODEL_ID
Context Window Size: CONTEXT_TOKENS""",
)

CONTINUE = Recipe(
    "continue",
    "Continue",
    "yaml",
    """name: Roxy
version: 0.0.1
schema: v1
models:
  - name: Roxy
    provider: openai
    model: MODEL_ID
    apiBase: BASE_URL/api/v1
    apiKey: ${{ secrets.ROXY_API_KEY }}
    roles: [chat, edit, apply]""",
)

ZED = Recipe(
    "zed",
    "Zed",
    "json",
    """{
  "language_models": {
    "openai_compatible": {
      "Roxy": {
        "api_url": "BASE_URL/api/v1",
        "available_models": [
          {
            "name": "MODEL_ID",
            "display_name": "Roxy",
            "max_tokens": CONTEXT_TOKENS
          }
        ]
      }
    }
  }
}""",
)

AIDER = Recipe(
    "aider",
    "Aider",
    "sh",
    """export OPENAI_API_BASE=BASE_URL/api/v1
export OPENAI_API_KEY="$ROXY_API_KEY"
aider --model openai/MODEL_ID""",
)

LANGCHAIN = Recipe(
    "langchain",
    "LangChain",
    "python",
    """import os
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
    model="MODEL_ID",
)
print(model.invoke("Say hello.").content)""",
)

LITELLM = Recipe(
    "litellm",
    "LiteLLM",
    "python",
    """import os
import litellm

answer = litellm.completion(
    model="openai/MODEL_ID",
    api_base="BASE_URL/api/v1",
    api_key=os.environ["ROXY_API_KEY"],
    messages=[{"role": "user", "content": "Say hello."}],
)
print(answer.choices[0].message.content)""",
)

AI_SDK = Recipe(
    "ai-sdk",
    "AI SDK",
    "javascript",
    """import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

const roxy = createOpenAICompatible({
  name: "roxy",
  baseURL: "BASE_URL/api/v1",
  apiKey: process.env.ROXY_API_KEY,
  includeUsage: true,
});
const { text } = await generateText({
  model: roxy("MODEL_ID"),
  prompt: "Say hello.",
});
console.log(text);""",
)

LLM = Recipe(
    "llm",
    "llm",
    "yaml",
    """- model_id: roxy
  model_name: MODEL_ID
  api_base: BASE_URL/api/v1
  api_key_name: roxy
  supports_tools: true
  supports_schema: true""",
)

N8N = Recipe(
    "n8n",
    "n8n",
    "text",
    """Base URL: BASE_URL/api/v1
Model:    MODEL_ID""",
)

HOME_ASSISTANT = Recipe(
    "home-assistant",
    "Home Assistant",
    "text",
    """Base URL: BASE_URL/api/v1
Model:    MODEL_ID""",
)

RECIPES = (
    AI_SDK,
    AIDER,
    CLINE,
    CONTINUE,
    CURSOR,
    HOME_ASSISTANT,
    LANGCHAIN,
    LIBRECHAT,
    LITELLM,
    LLM,
    N8N,
    OPEN_WEBUI,
    ZED,
)
"""All recipes, by the name of the program."""
