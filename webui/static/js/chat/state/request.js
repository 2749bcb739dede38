// From a conversation to the body of a chat request.

import { find } from "./store.js";

/**
 * Build the request for the answer that follows the last message of `line`. `model` is the catalog's
 * description; what it cannot take is named in place of being sent.
 */
export async function buildRequest(conversation, line, model) {
  const messages = [];
  if (conversation.system.trim()) messages.push({ role: "system", content: conversation.system });
  for (const message of line) {
    if (message.role === "user") messages.push({ role: "user", content: await contentOf(message, model) });
    else if (message.text) messages.push({ role: "assistant", content: message.text });
  }
  return {
    model: model.id,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...parametersOf(conversation.parameters),
  };
}

function parametersOf(chosen) {
  const given = Object.entries(chosen ?? {}).filter(([, value]) => value !== null && value !== "");
  return Object.fromEntries(given);
}

async function contentOf(message, model) {
  if (!message.files?.length) return message.text;
  const parts = [];
  for (const file of message.files) parts.push(await partOf(file, model));
  if (message.text) parts.push({ type: "text", text: message.text });
  return parts;
}

async function partOf(file, model) {
  const blob = file.blob ?? (await find("files", file.id))?.blob;
  if (!blob) return note(`The file “${file.name}” is not in this browser any more.`);
  if (file.kind === "text") {
    const text = await blob.text();
    const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`{3,}/g)].map((found) => found[0].length + 1)));
    return { type: "text", text: `File “${file.name}”:\n\n${fence}\n${text}\n${fence}` };
  }
  if (file.kind === "image" && model.modalities.input.includes("image")) {
    return { type: "image_url", image_url: { url: await dataUrl(blob) } };
  }
  return note(`The user attached “${file.name}” (${file.type}, ${file.size} bytes), which cannot be read here.`);
}

const note = (text) => ({ type: "text", text: `[${text}]` });

/** Give a blob as a data URL. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
