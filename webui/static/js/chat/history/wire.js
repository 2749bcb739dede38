// Records as the history API takes and gives them. What the server has no field for travels in `extra`.

/** @import { AnswerRecord, ConversationRecord, Draft, FileRecord, Message, Question } from "../state/types.js" */

/**
 * @typedef {Record<string, any>} Sent
 */

const QUESTION = ["role", "id", "parent", "text", "files", "created"];
const ANSWER = [
  ...["role", "id", "job", "parent", "model", "text", "reasoning", "created", "seq", "state", "accepted", "error"],
  ...["finish", "thinkingMs", "stats", "edited"],
];
const FILE = ["id", "name", "type", "size", "kind"];
const STATS = ["prompt", "completion", "reasoning", "estimated", "cost", "ttft", "duration", "queued", "speed"];
const ERROR = ["message", "code", "status", "retryAfter"];
/** Members of a conversation that are set one by one. */
const SETTABLE = ["title", "pinned", "model", "system", "parameters", "deleted", "created"];
/** Members of a conversation that are not set, or are sent in another way. */
const OTHERS = ["id", "updated", "choices", "draft", "version", "draft_version", "answering", "extra"];
/** Members that belong to the transfer, or to this browser. */
const DROPPED = ["conversation", "version", "base", "extra", "blob", "bytes"];
const MAX_CHARS = { title: 500, system: 256 * 1024 };

/**
 * @param {object} record
 * @param {string[]} fields
 * @returns {Sent}
 */
function packed(record, fields) {
  /** @type {Sent} */
  const sent = {};
  /** @type {Sent} */
  const extra = {};
  for (const [name, value] of Object.entries(record)) {
    if (value === undefined || DROPPED.includes(name)) continue;
    if (fields.includes(name)) sent[name] = value;
    else extra[name] = value;
  }
  if (Object.keys(extra).length) sent.extra = extra;
  return sent;
}

/**
 * @param {object | null} record
 * @param {string[]} fields
 */
const only = (record, fields) =>
  record && Object.fromEntries(Object.entries(record).filter(([name]) => fields.includes(name)));

/** @param {unknown} time */
const millis = (time) => Math.max(0, Math.trunc(Number(time) || 0));

/** @param {FileRecord[] | undefined} files */
const packFiles = (files = []) => files.map((file) => packed(file, FILE));

/**
 * Return a message as it is sent.
 *
 * @param {Message} message
 * @returns {Sent}
 */
export function packMessage(message) {
  if (message.role === "user") {
    const sent = packed(message, QUESTION);
    return { ...sent, created: millis(sent.created), files: packFiles(message.files) };
  }
  const sent = packed(message, ANSWER);
  const { error, stats } = message;
  return { ...sent, created: millis(sent.created), error: only(error, ERROR), stats: only(stats, STATS) };
}

/**
 * Return a message as the page keeps it.
 *
 * @param {Sent} sent
 * @param {string} conversation
 * @returns {Message}
 */
export function unpackMessage({ extra, version: _version, base: _base, ...sent }, conversation) {
  const message = { ...sent, ...extra, conversation };
  return /** @type {Question | AnswerRecord} */ (
    sent.role === "user" ? { ...message, files: unpackFiles(sent.files) } : message
  );
}

/**
 * @param {Sent[]} [files]
 * @returns {FileRecord[]}
 */
const unpackFiles = (files = []) =>
  files.map(({ extra, conversation: _conversation, ...file }) => /** @type {FileRecord} */ ({ ...file, ...extra }));

/**
 * Return a draft as it is sent.
 *
 * @param {Draft | null} draft
 */
export const packDraft = (draft) => draft && { text: draft.text, files: packFiles(draft.files) };

/**
 * @param {Sent | null | undefined} draft
 * @returns {Draft | null}
 */
export const unpackDraft = (draft) => (draft ? { text: draft.text ?? "", files: unpackFiles(draft.files) } : null);

/**
 * Return the members of a conversation that differ from what is `known`, as they are sent.
 *
 * @param {ConversationRecord} record
 * @param {ConversationRecord | null} known
 * @returns {Sent}
 */
export function differences(record, known) {
  const now = /** @type {Sent} */ (record);
  const before = /** @type {Sent} */ (known ?? {});
  /** @type {Sent} */
  const set = {};
  /** @type {Sent} */
  const extra = {};
  for (const [name, value] of Object.entries(now)) {
    if (OTHERS.includes(name) || value === undefined || alike(value, before[name])) continue;
    if (!SETTABLE.includes(name)) extra[name] = value;
    else set[name] = name === "title" ? String(value).slice(0, MAX_CHARS.title) : value;
  }
  const chosen = Object.entries(record.choices ?? {}).filter(([at, id]) => before.choices?.[at] !== id);
  const dropped = Object.keys(before.choices ?? {}).filter((at) => !(at in (record.choices ?? {})));
  if (chosen.length || dropped.length)
    set.choices = Object.fromEntries([...chosen, ...dropped.map((at) => [at, null])]);
  if (Object.keys(extra).length) set.extra = extra;
  return set;
}

/**
 * Return the texts of a record that those to set were made from.
 *
 * @param {Sent} set
 * @param {Partial<ConversationRecord> | null | undefined} seen
 * @returns {Record<string, string>}
 */
export function textsBefore(set, seen) {
  const typed = /** @type {const} */ (["title", "system"]).filter((name) => seen && set[name] !== undefined);
  return Object.fromEntries(typed.map((name) => [name, (seen?.[name] ?? "").slice(0, MAX_CHARS[name])]));
}

/**
 * Return what a record is after changes that are about to be sent.
 *
 * @template {object} T
 * @param {T} record
 * @param {Sent} set
 * @returns {T}
 */
export function withChanges(record, { choices, extra, ...set }) {
  const merged = { .../** @type {Sent} */ (record).choices, ...choices };
  for (const [at, id] of Object.entries(merged)) if (id === null) delete merged[at];
  return { ...record, ...set, ...extra, choices: merged };
}

/**
 * Return a conversation as the page keeps it.
 *
 * @param {Sent} sent
 * @returns {ConversationRecord}
 */
export function unpackConversation({ extra, version: _version, draft_version: _draft, draft, ...sent }) {
  return /** @type {ConversationRecord} */ ({
    ...{ system: "", parameters: {}, choices: {} },
    ...sent,
    ...extra,
    draft: unpackDraft(draft),
  });
}

/**
 * @param {unknown} value
 * @returns {unknown}
 */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(
    members.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, member]) => [name, sorted(member)]),
  );
}

/**
 * True if two values are the same JSON, whatever the order of their members.
 *
 * @param {unknown} a
 * @param {unknown} b
 */
export const alike = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
