"""List programs that people use with the gateway, and what to enter in each.

`BASE_URL`, `MODEL_ID` and `CONTEXT_TOKENS` are placeholders (`Values.fill`).
"""

from __future__ import annotations

from webui.docs.parts import Recipe

OPEN_WEBUI = Recipe(
    "open-webui",
    "Open WebUI",
    """
    Start it with the two variables, or enter the same under **Admin Settings**, **Connections**,
    **OpenAI API**. It reads the list of models from this server. Inside a container `localhost` is
    the container: use an address of this server that the container can reach.
    """,
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
    """
    Add an endpoint to `librechat.yaml`, put `ROXY_API_KEY=roxy_...` into `.env`, and restart
    LibreChat. `fetch` reads the list of models from this server.
    """,
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
    """
    Under **Settings**, **Models**: add the model id as a custom model, enter the key as **OpenAI
    API Key**, switch on **Override OpenAI Base URL** and enter the base URL. Cursor's own servers
    send the requests, so this server must be reachable from the internet over https. Tab completion
    always uses Cursor's models.
    """,
    "text",
    """Base URL: BASE_URL/api/v1
Model:    MODEL_ID""",
)

CLINE = Recipe(
    "cline",
    "Cline",
    """
    In the settings of the extension choose the API provider **OpenAI Compatible** and enter the
    values below with your key. Under **Model Configuration** enter the context window, so that it
    shortens long conversations in time. Roo Code has the same fields.
    """,
    "text",
    """Base URL:            BASE_URL/api/v1
Model ID:            MODEL_ID
Context Window Size: CONTEXT_TOKENS""",
)

CONTINUE = Recipe(
    "continue",
    "Continue",
    "Add a model to `~/.continue/config.yaml`, and the key to `~/.continue/.env`.",
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
    """
    Add a provider to `settings.json`. Zed asks for the key in its agent settings, or reads it from
    `ROXY_API_KEY` when it is started from a terminal. `max_tokens` is the context window.
    """,
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
    """
    The prefix `openai/` selects the format; the rest is the model id. Aider warns that it does not
    know the model's context and costs; both are on this page.
    """,
    "sh",
    """export OPENAI_API_BASE=BASE_URL/api/v1
export OPENAI_API_KEY="$ROXY_API_KEY"
aider --model openai/MODEL_ID""",
)

LANGCHAIN = Recipe(
    "langchain",
    "LangChain",
    "`pip install langchain-openai`. The JavaScript package takes `configuration: { baseURL }`.",
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
    "The prefix `openai/` selects the format; the rest is the model id.",
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
    "`npm install ai @ai-sdk/openai-compatible`. `includeUsage` asks for usage in streams.",
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
    """
    Add the model to `extra-openai-models.yaml` in the directory that `dirname "$(llm logs path)"`
    prints, save the key with `llm keys set roxy`, then run `llm -m roxy "Say hello."`.
    """,
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
    """
    Create a credential of the type **OpenAI** with your key and the base URL, and use it in the
    node **OpenAI Chat Model**. Choose the model by id, and switch **Use Responses API** off: this
    server does not have that route.
    """,
    "text",
    """Base URL: BASE_URL/api/v1
Model:    MODEL_ID""",
)

HOME_ASSISTANT = Recipe(
    "home-assistant",
    "Home Assistant",
    """
    The built-in OpenAI integration has no field for the base URL. Install the custom integration
    **Extended OpenAI Conversation** (HACS), add it under **Devices & services** with your key and
    the base URL, and set the model in its options.
    """,
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
