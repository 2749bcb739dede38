// Export of conversations: JSON with everything, which `import.js` reads, and Markdown for reading.

import { fill, texts } from "../../shell/page.js";
import { Tree } from "../state/conversation.js";
import { shownFiles } from "../state/records.js";
import { dataUrl } from "../state/request.js";
import { find, within } from "../state/store.js";
import { answerText } from "../turns/thoughts.js";

/** @import { ConversationRecord } from "../state/types.js" */

export const FORMAT = "roxy-conversations";
export const VERSION = 1;

/**
 * Return conversations with their messages, branches and files.
 *
 * @param {ConversationRecord[]} conversations
 * @param {{ name: string, text: string }[]} [prompts]
 */
export async function gather(conversations, prompts = []) {
  const gathered = [];
  for (const { id } of conversations) {
    const one = await find("conversations", id);
    if (!one) continue;
    const messages = await within("messages", id);
    const files = [];
    for (const { blob, ...file } of await within("files", id)) {
      if (blob) files.push({ ...file, data: await dataUrl(blob) });
    }
    const { draft, deleted, ...kept } = one;
    gathered.push({ ...kept, messages, files });
  }
  const known = prompts.map(({ name, text }) => ({ name, text }));
  const head = { format: FORMAT, version: VERSION, exported: new Date().toISOString() };
  return { ...head, ...(known.length && { prompts: known }), conversations: gathered };
}

/**
 * Return the shown messages of a conversation as Markdown.
 *
 * @param {ConversationRecord} conversation
 * @param {(id: string) => string} modelName
 */
export async function asMarkdown(conversation, modelName) {
  const tree = new Tree(conversation, await within("messages", conversation.id));
  const parts = [`# ${conversation.title || texts.problems.untitled}`];
  if (conversation.system) parts.push(`**${texts.problems.system_prompt}**\n\n${conversation.system}`);
  for (const message of tree.path()) {
    const files = message.role === "user" ? (message.files ?? []) : [];
    const attached = shownFiles(files).map((file) => `*${fill(texts.problems.attached, { name: file.name })}*`);
    const who = message.role === "user" ? texts.problems.you : modelName(message.model);
    const text = message.role === "user" ? message.text : answerText(message);
    parts.push([`## ${who}`, ...attached, text].filter(Boolean).join("\n\n"));
  }
  return `${parts.join("\n\n")}\n`;
}

/**
 * Return a file name made of a title.
 *
 * @param {string} title
 * @param {string} end
 */
export function fileName(title, end) {
  const name = (title || texts.problems.file_name).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${name.slice(0, 60) || texts.problems.file_name}.${end}`;
}
