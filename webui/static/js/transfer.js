// Conversations out of the browser and back: JSON with everything, Markdown for reading.

import { dataUrl } from "./request.js";
import { Tree, all, find, newId, putAll, within } from "./store.js";

const FORMAT = "roxy-conversations";
const VERSION = 1;
const STATES = ["open", "done", "stopped", "failed", "interrupted"];

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
    const { draft, waiting, deleted, ...kept } = one;
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
  `${(title || "conversation").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "conversation"}.${end}`;

/** Take an export in; gives how many conversations came. Raises Error with words for a person. */
export async function takeIn(text) {
  let document;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  if (document?.format !== FORMAT || !Array.isArray(document.conversations)) {
    throw new Error("This is not an export of Roxy's conversations.");
  }
  if (document.version > VERSION) throw new Error("This export is from a newer version of Roxy.");
  const here = new Set((await all("conversations")).map((one) => one.id));
  let taken = 0;
  for (const one of document.conversations) {
    await putAll(await checked(one, here.has(one?.id)));
    taken += 1;
  }
  return taken;
}

/** Give a conversation's records; where it is here already the import becomes a copy. */
async function checked(one, copy) {
  if (typeof one?.id !== "string" || !Array.isArray(one.messages)) throw new Error("A conversation in this file is damaged.");
  const ids = new Map();
  const renamed = (id, prefix) => {
    if (!copy || id === null || id === undefined) return id ?? null;
    if (!ids.has(id)) ids.set(id, newId(prefix));
    return ids.get(id);
  };
  const id = renamed(one.id, "c_");
  const choices = Object.fromEntries(
    Object.entries(one.choices ?? {}).map(([at, chosen]) => [at === "root" ? at : renamed(at, "m_"), renamed(chosen, "m_")]),
  );
  const messages = one.messages.map((message) => {
    if (!["user", "assistant"].includes(message?.role) || typeof message.text !== "string") throw new Error("A message in this file is damaged.");
    const taken = { ...message, conversation: id, id: renamed(message.id, "m_"), parent: renamed(message.parent, "m_") };
    if (message.files) taken.files = message.files.map((file) => ({ ...file, id: renamed(file.id, "f_") }));
    if (message.role === "assistant" && !STATES.includes(message.state)) taken.state = "done";
    return taken;
  });
  const files = [];
  for (const { data, ...file } of one.files ?? []) {
    files.push({ ...file, id: renamed(file.id, "f_"), conversation: id, blob: blobOf(data, file.type) });
  }
  const { messages: _messages, files: _files, ...kept } = one;
  const conversation = { ...kept, id, choices, title: String(one.title ?? ""), draft: null, waiting: [], deleted: null };
  return { conversations: [conversation], messages, files };
}

/** Make a blob of a data URL; `fetch` may not read those under our policy. */
function blobOf(data, type) {
  const letters = atob(String(data).slice(String(data).indexOf(",") + 1));
  return new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))], { type });
}

/** Gather the words of every conversation, for the search. */
export async function allTexts() {
  const texts = new Map();
  for (const message of await all("messages")) {
    texts.set(message.conversation, `${texts.get(message.conversation) ?? ""}${message.text}\n`);
  }
  return new Map([...texts].map(([id, text]) => [id, { text, lower: text.toLowerCase() }]));
}
