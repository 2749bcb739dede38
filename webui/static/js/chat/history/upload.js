// What is sent to the server: files, and changes in requests that are not too large.

import { call, callJson } from "../../shell/api.js";
import { nothing } from "./outbox.js";
import { differences, packDraft, packMessage } from "./wire.js";

/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { Unsent } from "./outbox.js" */
/** @import { Sent } from "./wire.js" */

/** The server takes 8 MiB and 5,000 messages at once. */
const MAX_PART_CHARS = 1_500_000;
const MAX_PART_MESSAGES = 1000;

/**
 * Return the path of a conversation in the API.
 *
 * @param {string} id
 */
export const pathOf = (id) => `history/conversations/${id}`;

/**
 * Send a whole conversation and return once the server has it. Raises ApiError; a repetition duplicates
 * nothing.
 *
 * @param {{ conversation: ConversationRecord, messages: Message[], files: FileRecord[] }} whole
 * @param {Connection} connection
 */
export async function upload({ conversation, messages, files }, connection) {
  const { id } = conversation;
  for (const file of files) if (file.blob) await putFile(file, file.blob, id, connection);
  const set = { ...differences(conversation, null), updated: Math.max(0, Math.trunc(conversation.updated)) };
  /** @type {Unsent} */
  const unsent = {
    ...nothing(id),
    set,
    draft: conversation.draft && { value: conversation.draft, base: null },
    messages: Object.fromEntries(messages.map((message) => [message.id, message])),
  };
  // The last part says when it was changed: messages count as a change.
  /** @type {Sent[]} */
  const bodies = inParts(unsent);
  const last = bodies[bodies.length - 1];
  last.set = { ...last.set, updated: set.updated };
  for (const body of bodies) {
    await callJson(pathOf(id), connection.options({ method: "POST", body: JSON.stringify(body) }));
  }
}

/**
 * Send the content of a file.
 *
 * @param {FileRecord} file
 * @param {Blob} blob
 * @param {string} conversation
 * @param {Connection} connection
 */
export async function putFile({ id, name, type }, blob, conversation, connection) {
  const query = new URLSearchParams({ conversation, name: name.slice(0, 1000), type: type.slice(0, 1000) });
  await call(`history/files/${id}?${query}`, connection.options({ method: "PUT", body: blob }));
}

/**
 * Return changes as the bodies of requests, none of which is too large.
 *
 * @param {Unsent} unsent
 */
export function inParts({ set, was, draft, messages, bases, remove, version }) {
  /** @type {Sent} */
  const first = {
    set,
    // 0 is no version: what the server has after all was not seen.
    remove: Object.entries(remove).map(([id, { base, seq }]) => ({ id, base: base ?? 0, seq })),
  };
  if (Object.keys(was).length) first.set_base = was;
  if (set.deleted && version !== null) first.deleted_base = version;
  if (draft) {
    first.draft = packDraft(draft.value);
    if (draft.base !== null) first.draft_base = draft.base;
  }
  /** @type {{ chars: number, messages: Sent[] }[]} */
  const parts = [{ chars: 0, messages: [] }];
  for (const message of Object.values(messages)) {
    const base = bases[message.id] ?? null;
    const sent = { ...packMessage(message), ...(base === null ? {} : { base }) };
    const chars = JSON.stringify(sent).length;
    let part = parts[parts.length - 1];
    if (part.chars + chars > MAX_PART_CHARS || part.messages.length >= MAX_PART_MESSAGES) {
      part = { chars: 0, messages: [] };
      if (parts[parts.length - 1].messages.length) parts.push(part);
      else part = parts[parts.length - 1];
    }
    part.chars += chars;
    part.messages.push(sent);
  }
  return parts.map((part, at) => ({ ...(at ? {} : first), messages: part.messages }));
}
