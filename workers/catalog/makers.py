"""Write the makers of models as names: "Anthropic", not "anthropic"."""

from __future__ import annotations

MAKERS = {
    "ai21": "AI21 Labs",
    "alibaba": "Alibaba",
    "allenai": "Ai2",
    "amazon": "Amazon",
    "anthropic": "Anthropic",
    "baidu": "Baidu",
    "bytedance": "ByteDance",
    "bytedance-seed": "ByteDance",
    "cohere": "Cohere",
    "deepseek": "DeepSeek",
    "deepseek-ai": "DeepSeek",
    "google": "Google",
    "huggingface": "Hugging Face",
    "ibm": "IBM",
    "ibm-granite": "IBM",
    "inception": "Inception",
    "liquid": "Liquid AI",
    "local": "Local",
    "meta": "Meta",
    "meta-llama": "Meta",
    "microsoft": "Microsoft",
    "minimax": "MiniMax",
    "mistral": "Mistral AI",
    "mistralai": "Mistral AI",
    "moonshot": "Moonshot AI",
    "moonshotai": "Moonshot AI",
    "nousresearch": "Nous Research",
    "nvidia": "NVIDIA",
    "openai": "OpenAI",
    "perplexity": "Perplexity",
    "qwen": "Qwen",
    "stepfun": "StepFun",
    "tencent": "Tencent",
    "upstage": "Upstage",
    "x-ai": "xAI",
    "xai": "xAI",
    "xiaomi": "Xiaomi",
    "z-ai": "Z.ai",
    "zai": "Z.ai",
}
"""Names of makers by what catalogs call them (the first part of a model's id)."""


def maker_name(owned_by: str) -> str:
    """Return the name of a maker; one that the owner has written with capitals stays as it is."""
    if owned_by != owned_by.lower():
        return owned_by
    return MAKERS.get(owned_by) or owned_by.replace("-", " ").replace("_", " ").title()
