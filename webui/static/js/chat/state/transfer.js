// Conversations out of the browser: JSON with everything, which `intake.js` reads, Markdown for reading.

import { dataUrl } from "./request.js";
import { all, find, Tree, within } from "./store.js";

export const FORMAT = "roxy-conversations";
export const VERSION = 1;

/** Gather conversations with messages, branches and files. */
export async function gather(conversations) {
  const made = [];
  for (const { id } of conversations) {
    const one = await find("conversations", id);
    if (!one) continue;
    const messages = await within("messages", id);
    const files = await within("files", id);
    const shown = [];
    for (const { blob, ...file } of files) shown.push({ ...file, data: await dataUrl(blob) });
    const { draft, deleted, ...kept } = one;
    made.push({ ...kept, messages, files: shown });
  }
  return { format: FORMAT, version: VERSION, exported: new Date().toISOString(), conversations: made };
}

/** Write the shown path of a conversation as Markdown. */
export async function asMarkdown(conversation, modelName) {
  const tree = new Tree(conversation, await within("messages", conversation.id));
  const parts = [`# ${conversation.title || "Conversation"}`];
  if (conversation.system) parts.push(`**System prompt**\n\n${conversation.system}`);
  for (const message of tree.path()) {
    const files = (message.files ?? []).map((file) => `*Attached: ${file.name}*`);
    const who = message.role === "user" ? "You" : modelName(message.model);
    parts.push([`## ${who}`, ...files, message.text].filter(Boolean).join("\n\n"));
  }
  return `${parts.join("\n\n")}\n`;
}

/** Offer text as a download. */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Make a file name of a title. */
export const fileName = (title, end) =>
  `${
    (title || "conversation")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 60) || "conversation"
  }.${end}`;

/** Gather the words of every conversation, for the search. */
export async function allTexts() {
  const texts = new Map();
  for (const message of await all("messages")) {
    texts.set(message.conversation, `${texts.get(message.conversation) ?? ""}${message.text}\n`);
  }
  return new Map([...texts].map(([id, text]) => [id, { text, lower: text.toLowerCase() }]));
}
