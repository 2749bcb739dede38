// Import of exported conversations. Nothing is saved before the whole file has been checked, and records
// are built here: only values of the expected kind get into them.

import { count, fill, loadModule, pluralText, texts } from "../../shell/page.js";
import { rooted } from "../history/rooted.js";
import { newAnswer } from "../state/answer.js";
import { problemWords } from "../state/problems.js";
import { newConversation, newId } from "../state/records.js";
import { all, putAll } from "../state/store.js";
import { FORMAT, VERSION } from "./export.js";

/** @import { Remote } from "../history/remote.js" */
/** @import { AnswerRecord, ConversationRecord, FileRecord, Message, PlainError, Stats } from "../state/types.js" */

/**
 * An object read from a file.
 *
 * @typedef {Record<string, unknown>} Given
 */

/** @type {AnswerRecord["state"][]} */
const STATES = ["open", "done", "stopped", "failed", "interrupted"];
/** @type {FileRecord["kind"][]} */
const KINDS = ["image", "text", "other"];

/**
 * @param {unknown} value
 * @returns {value is Given}
 */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * @param {unknown} value
 * @returns {unknown[]}
 */
const listOf = (value) => (Array.isArray(value) ? value : []);

/** @param {unknown} value */
const textOf = (value) => (typeof value === "string" ? value : "");

/**
 * @param {unknown} value
 * @returns {number | null}
 */
const numberOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** The last moment that a Date can be, in milliseconds (ECMA-262, 21.4.1.1). */
const LAST_MS = 8.64e15;

/** @param {unknown} value */
const momentOf = (value) => {
  const ms = numberOf(value);
  return ms !== null && Math.abs(ms) <= LAST_MS ? ms : null;
};

/**
 * Import an export: all or nothing into this browser, one conversation after the other into a history on the
 * server. What is there already is left out, unless it has changed since. Raises Error with a message for the
 * visitor.
 *
 * @param {string} text
 * @param {Remote | null} history
 * @returns {Promise<{ arrived: number, known: number }>} how many were imported, and how many left out
 */
export async function importText(text, history) {
  /** @type {unknown} */
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error(texts.problems.not_json);
  }
  if (!isObject(file) || file.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error(texts.problems.no_export);
  }
  if ((numberOf(file.version) ?? Infinity) > VERSION) throw new Error(texts.problems.newer_export);
  const taken = await takenIds(history !== null);
  const here = new Set((await all("conversations")).flatMap((one) => (one.deleted ? [] : markOf(one))));
  const read = file.conversations.map((one) => ({
    ...new Importer(one, taken, history !== null).records(),
    isKnown: isObject(one) && here.has(markOf(one)),
  }));
  const made = read.filter(({ isKnown }) => !isKnown);
  const counts = { arrived: made.length, known: read.length - made.length };
  if (history) {
    const { send } = await loadModule(() => import("./moving.js"));
    for (const [at, one] of made.entries()) {
      try {
        await send(one, history);
      } catch (error) {
        const why = problemWords(error);
        if (!at) throw error;
        throw new Error(pluralText(texts.problems.only_some, made.length, { arrived: count(at), why }));
      }
    }
    history.connection.pollNow();
    await importPromptsOf(file);
    return counts;
  }
  await putAll({
    conversations: made.map((one) => one.conversation),
    messages: made.flatMap((one) => one.messages),
    files: made.flatMap((one) => one.files),
  });
  await importPromptsOf(file);
  return counts;
}

/**
 * Return when a conversation began and was last written in: together they tell which it is, also where it was
 * imported under a new id, and that nothing was written in it since. "" without these times.
 *
 * @param {{ created?: unknown, updated?: unknown }} conversation
 */
function markOf({ created, updated }) {
  const times = [momentOf(created), momentOf(updated)];
  return times.includes(null) ? "" : times.map((ms) => Math.trunc(Number(ms))).join(" ");
}

/**
 * Return the ids of what is stored already. A history on the server keeps messages by their conversation.
 *
 * @param {boolean} onServer
 */
async function takenIds(onServer) {
  const taken = new Set((await all("conversations")).map((one) => one.id));
  for (const message of onServer ? [] : await all("messages")) {
    taken.add(message.id);
    for (const { id } of ("files" in message && message.files) || []) taken.add(id);
  }
  return taken;
}

/** @param {Given} file */
async function importPromptsOf({ prompts }) {
  if (!prompts) return;
  const { importPrompts } = await loadModule(() => import("../prompts/prompt_store.js"));
  try {
    await importPrompts(prompts);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(fill(texts.prompts.only_some, { why }));
  }
}

/**
 * One conversation of a file; where it is stored already it becomes a copy with new ids. So do messages and files
 * whose ids another conversation has.
 */
class Importer {
  #given;
  #messages;
  #taken;
  #onServer;
  #isCopy;
  #id;
  /** @type {Map<string, string>} new ids by the file's */
  #ids = new Map();

  /**
   * @param {unknown} given
   * @param {Set<string>} taken the ids of what is stored, and of what has been read of the file
   * @param {boolean} onServer whether files get new ids: which the server has is not known here
   */
  constructor(given, taken, onServer) {
    if (!isObject(given) || !Array.isArray(given.messages)) throw new Error(texts.problems.bad_conversation);
    this.#given = given;
    this.#messages = given.messages;
    this.#taken = taken;
    this.#onServer = onServer;
    this.#isCopy = taken.has(textOf(given.id));
    this.#id = this.#idFor(given.id, "c_");
  }

  /** Return the records of the conversation. */
  records() {
    const given = this.#given;
    const choices = Object.entries(isObject(given.choices) ? given.choices : {}).map(([at, chosen]) => [
      at === "root" ? at : this.#idFor(at, "m_"),
      this.#idFor(chosen, "m_"),
    ]);
    const pairs = Object.entries(isObject(given.pairs) ? given.pairs : {}).map(([at, pair]) => [
      this.#idFor(at, "m_"),
      listOf(pair).map((id) => this.#idFor(id, "m_")),
    ]);
    const created = momentOf(given.created) ?? Date.now();
    /** @type {ConversationRecord} */
    const conversation = {
      ...newConversation(textOf(given.model)),
      id: this.#id,
      title: textOf(given.title),
      created,
      updated: momentOf(given.updated) ?? created,
      pinned: given.pinned === true,
      system: textOf(given.system),
      parameters: isObject(given.parameters) ? given.parameters : {},
      choices: Object.fromEntries(choices),
      ...(pairs.length ? { pairs: Object.fromEntries(pairs) } : {}),
    };
    const messages = this.#messages.map((one) => this.#message(one));
    const files = listOf(given.files).map((one) => {
      const { data, type } = isObject(one) ? one : {};
      return { ...this.#file(one), conversation: this.#id, blob: blobOf(textOf(data), textOf(type)) };
    });
    for (const id of this.#ids.values()) this.#taken.add(id);
    return { conversation, messages: rooted(messages), files };
  }

  /**
   * @param {unknown} id
   * @param {string} prefix of a new id
   */
  #idFor(id, prefix) {
    if (typeof id !== "string" || !/^[\w-]{1,64}$/.test(id)) throw new Error(texts.problems.bad_id);
    const isFree = !this.#isCopy && !this.#taken.has(id) && !(this.#onServer && prefix === "f_");
    const mine = this.#ids.get(id) ?? (isFree ? id : newId(prefix));
    this.#ids.set(id, mine);
    return mine;
  }

  /**
   * @param {unknown} given
   * @returns {Message}
   */
  #message(given) {
    if (!isObject(given) || typeof given.text !== "string") throw new Error(texts.problems.bad_message);
    const id = this.#idFor(given.id, "m_");
    const parent = given.parent === null || given.parent === undefined ? null : this.#idFor(given.parent, "m_");
    const created = momentOf(given.created) ?? Date.now();
    if (given.role === "assistant") return { ...this.#answer(given, id, parent), text: given.text, created };
    if (given.role !== "user") throw new Error(texts.problems.bad_message);
    const files = listOf(given.files).map((file) => this.#file(file));
    return { id, conversation: this.#id, parent, role: "user", text: given.text, files, created };
  }

  /**
   * @param {Given} given
   * @param {string} id
   * @param {string | null} parent
   * @returns {AnswerRecord}
   */
  #answer(given, id, parent) {
    const state = STATES.find((one) => one === given.state) ?? "done";
    return {
      ...newAnswer(id, textOf(given.job), parent, this.#id, textOf(given.model)),
      reasoning: textOf(given.reasoning),
      seq: numberOf(given.seq) ?? 0,
      state,
      accepted: true,
      error: isObject(given.error) || state === "failed" ? errorOf(given.error) : null,
      finish: typeof given.finish === "string" ? given.finish : null,
      thinkingMs: numberOf(given.thinkingMs),
      stats: isObject(given.stats) ? statsOf(given.stats) : null,
      ...(given.edited === true && { edited: true }),
    };
  }

  /**
   * @param {unknown} given
   * @returns {FileRecord}
   */
  #file(given) {
    if (!isObject(given) || typeof given.name !== "string") throw new Error(texts.problems.bad_file);
    const kind = KINDS.find((one) => one === given.kind) ?? "other";
    const id = this.#idFor(given.id, "f_");
    return {
      id,
      name: given.name,
      type: textOf(given.type),
      size: numberOf(given.size) ?? 0,
      kind,
      ...aboutOf(isObject(given.extra) ? { ...given, ...given.extra } : given),
    };
  }
}

/**
 * Return what is known of a document and its text.
 *
 * @param {Record<string, unknown>} given
 * @returns {Partial<FileRecord>}
 */
function aboutOf({ cut, source, tokens, unit, units, unitsRead }) {
  /** @type {Partial<FileRecord>} */
  const about = {};
  if (cut === true) about.cut = true;
  if (source === true) about.source = true;
  for (const [name, value] of Object.entries({ tokens, unitsRead }))
    if (numberOf(value) !== null) Object.assign(about, { [name]: value });
  if ((unit === "page" || unit === "sheet" || unit === "slide") && numberOf(units))
    Object.assign(about, { unit, units: numberOf(units) });
  return about;
}

/**
 * @param {unknown} given
 * @returns {PlainError}
 */
function errorOf(given) {
  const { message, code, status, retryAfter } = isObject(given) ? given : {};
  return {
    message: typeof message === "string" ? message : texts.problems.answer_failed,
    code: textOf(code),
    status: numberOf(status) ?? 0,
    retryAfter: numberOf(retryAfter),
  };
}

/**
 * @param {Given} given
 * @returns {Stats}
 */
const statsOf = (given) => ({
  prompt: numberOf(given.prompt),
  completion: numberOf(given.completion),
  reasoning: numberOf(given.reasoning),
  estimated: given.estimated === true,
  cost: numberOf(given.cost),
  ttft: numberOf(given.ttft),
  duration: numberOf(given.duration),
  queued: numberOf(given.queued),
  speed: numberOf(given.speed),
});

/**
 * Return the blob of a data URL; the page's policy forbids `fetch` to read those.
 *
 * @param {string} data
 * @param {string} type
 */
function blobOf(data, type) {
  let letters;
  try {
    letters = atob(data.slice(data.indexOf(",") + 1));
  } catch {
    throw new Error(texts.problems.bad_file);
  }
  return new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))], { type });
}
