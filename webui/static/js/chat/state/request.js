// From a conversation to the body of a chat request.

import { answerText } from "../turns/thoughts.js";
import { imagesLeftOut, shownFiles } from "./records.js";
import { find, isStored } from "./store.js";

/** @import { Chat } from "./chat.js" */
/** @import { ConversationRecord, FileRecord, Model } from "./types.js" */

/** What the settings of a conversation can set in a request. */
const PARAMETERS = ["temperature", "top_p", "max_tokens", "reasoning_effort"];

/**
 * A message, as far as a request needs it.
 *
 * @typedef {{ role: "user" | "assistant", text: string, files?: FileRecord[] }} Turn
 */

/**
 * @typedef {{ type: "text", text: string } | { type: "image_url", image_url: { url: string } } |
 *   { type: "file", file: { filename: string, file_data: string } }} Part
 */

/**
 * Return the request for the answer that follows the last of `turns`. What the model cannot take is named
 * in place of being sent.
 *
 * @param {ConversationRecord} record
 * @param {Turn[]} turns
 * @param {Model} model
 * @param {string} [instructions] those for all chats
 */
export async function buildRequest(record, turns, model, instructions = "") {
  /** @type {{ role: string, content: string | Part[] }[]} */
  const messages = [];
  const system = [instructions, record.system].filter((text) => text.trim()).join("\n\n");
  if (system) messages.push({ role: "system", content: system });
  const leftOut = imagesLeftOut(turns);
  for (const turn of turns) {
    if (turn.role === "user") messages.push({ role: "user", content: await contentOf(turn, model, leftOut) });
    else {
      const content = answerText(turn); // models are not given their reasoning again
      if (content) messages.push({ role: "assistant", content });
    }
  }
  return {
    model: model.id,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...setParameters(record.parameters),
  };
}

/**
 * Return the request that the open conversation would send next, with what is typed.
 *
 * @param {Chat} chat
 * @param {{ text: string, files: FileRecord[] } | null} typed
 */
export async function nextRequest(chat, typed) {
  const { current } = chat;
  const model = chat.model ?? [...chat.models.values()][0];
  if (!current || !model) return {};
  const line = current.path.filter((message) => message.role === "user" || message.state !== "open");
  /** @type {Turn[]} */
  const turns = typed ? [...line, { role: "user", ...typed }] : line;
  return buildRequest(current.record, turns, model, chat.instructions);
}

/**
 * Return the parameters that are set. Only those of the settings: others may come with an imported conversation.
 *
 * @param {Record<string, unknown> | undefined} parameters
 */
function setParameters(parameters = {}) {
  const set = PARAMETERS.map((name) => [name, parameters[name]]);
  return Object.fromEntries(set.filter(([, value]) => value !== undefined && value !== null && value !== ""));
}

/**
 * @param {Turn} turn
 * @param {Model} model
 * @param {Set<string>} leftOut images that are not sent
 */
async function contentOf({ text, files }, model, leftOut) {
  if (!files?.length) return text;
  /** @type {Part[]} */
  const parts = [];
  for (const file of shownFiles(files)) {
    if (leftOut.has(file.id)) parts.push(note(`The image “${file.name}” was sent earlier and is left out now.`));
    else parts.push(await partOf(file, model));
  }
  if (text) parts.push({ type: "text", text });
  return parts;
}

/**
 * @param {FileRecord} file
 * @param {Model} model
 * @returns {Promise<Part>}
 */
async function partOf(file, model) {
  const isImage = file.kind === "image" && model.modalities.input.includes("image");
  const isFile = isPdf(file) && takesFiles(model);
  // The gateway puts the contents in their place: they need not travel again with every turn.
  if ((isImage || isFile) && (await isStored(file.id))) return mediumOf(file, `roxy-file:${file.id}`);
  const blob = file.blob ?? (await find("files", file.id))?.blob;
  if (!blob) return note(`The file “${file.name}” is not in this browser any more.`);
  if (file.kind === "text") {
    const text = await blob.text();
    const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`{3,}/g)].map((found) => found[0].length + 1)));
    const beginning = file.cut ? " (its beginning)" : "";
    return { type: "text", text: `File “${file.name}”${beginning}:\n\n${fence}\n${text}\n${fence}` };
  }
  if (isImage || isFile) return mediumOf(file, await dataUrl(blob));
  return note(`The user attached “${file.name}” (${file.type}, ${file.size} bytes), which cannot be read here.`);
}

/**
 * @param {FileRecord} file
 * @param {string} url
 * @returns {Part}
 */
function mediumOf(file, url) {
  if (file.kind === "image") return { type: "image_url", image_url: { url } };
  return { type: "file", file: { filename: file.name, file_data: url } };
}

/** @param {FileRecord} file */
const isPdf = ({ type }) => type === "application/pdf";

/**
 * True if a model takes PDF files as they are.
 *
 * @param {Model} [model]
 */
export const takesFiles = (model) => model?.modalities.input.includes("file") ?? false;

/**
 * @param {string} text
 * @returns {Part}
 */
const note = (text) => ({ type: "text", text: `[${text}]` });

/**
 * Return a blob as a data URL.
 *
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
