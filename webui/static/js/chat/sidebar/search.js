// The search: on the server for people who have signed in, else in this browser.

import { fill, texts } from "../../shell/page.js";
import { excerptOf, fold, MAX_FILE_CHARS, wordsOf } from "../search_words.js";
import { problemWords } from "../state/problems.js";
import { all, find, within } from "../state/store.js";
import { answerText } from "../turns/thoughts.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Mark } from "../search_words.js" */

/**
 * A place where the words were found; `message` is null for a title or a system prompt, `file` is the name of the
 * file whose name or text has the words. `matches` are the places of words in the excerpt.
 *
 * @typedef {object} Hit
 * @property {string} conversation
 * @property {string} title
 * @property {string | null} message
 * @property {"title" | "text" | "system" | "file"} where
 * @property {Message["role"] | null} role
 * @property {string | null} file
 * @property {string} excerpt
 * @property {Mark[]} matches
 * @property {number} updated
 */

/** @typedef {{ query: string, hits: Hit[], partial: boolean, problem: string }} Found */

/**
 * A text in which words may be.
 *
 * @typedef {{ where: Hit["where"], file: string | null, text: string, folded: string }} Part
 */
/** @typedef {{ message: string | null, role: Hit["role"], parts: Part[], files: FileRecord[] }} Passage */
/** @typedef {{ record: ConversationRecord, passages: Passage[] }} Searched */

const MAX_HITS = 200;
/** Between the last key and the question to the server. */
const PAUSE_MS = 150;
/** The search of this browser lets the page work after so long. */
const TURN_MS = 12;
/** Letters of files that are kept in memory. */
const MAX_KEPT_CHARS = 16_000_000;

/**
 * @param {Hit["where"]} where
 * @param {string} text
 * @param {string | null} [file]
 * @returns {Part}
 */
const partOf = (where, text, file = null) => ({ where, file, text, folded: fold(text) });

/**
 * @param {ConversationRecord} record
 * @param {Message[]} messages
 * @returns {Searched}
 */
function searchedOf(record, messages) {
  const whole = [partOf("title", record.title), partOf("system", record.system ?? "")];
  const passages = messages
    .sort((a, b) => b.created - a.created)
    .map((message) => {
      const files = (message.role === "user" && message.files) || [];
      const names = [...new Set(files.map(({ name }) => name))];
      const text = message.role === "user" ? message.text : answerText(message);
      const parts = [partOf("text", text), ...names.map((name) => partOf("file", name, name))];
      return { message: message.id, role: message.role, parts, files: files.filter(({ kind }) => kind === "text") };
    });
  return { record, passages: [{ message: null, role: null, parts: whole, files: [] }, ...passages] };
}

/**
 * @param {Part[]} parts
 * @param {string[]} words
 */
const hasAll = (parts, words) => words.every((word) => parts.some(({ folded }) => folded.includes(word)));

/**
 * Return the part that has most of the words; of those that have as many, the first.
 *
 * @param {Part[]} parts
 * @param {string[]} words
 */
function bestPart(parts, words) {
  /** @param {Part} part */
  const count = ({ folded }) => words.filter((word) => folded.includes(word)).length;
  return parts.reduce((best, part) => (count(part) > count(best) ? part : best));
}

/** Everything in this browser, as far as it was read, and what has changed since. */
class Library {
  /** @type {Promise<Map<string, Searched>> | null} */
  #reading = null;
  /** @type {Set<string>} */
  #changed = new Set();
  /** @type {Map<string, Part>} texts of files by their ids */
  #files = new Map();
  #kept = 0;

  /**
   * Read a conversation again before the next search; null: all of them.
   *
   * @param {string | null} id
   */
  forget(id) {
    if (id) this.#changed.add(id);
    else this.#reading = null;
  }

  /** Return what can be searched, what was changed last first. */
  async read() {
    this.#reading ??= readAll();
    const known = await this.#reading;
    for (const id of this.#changed) {
      this.#changed.delete(id);
      const record = await find("conversations", id);
      if (!record || record.deleted) known.delete(id);
      else known.set(id, searchedOf(record, await within("messages", id)));
    }
    return [...known.values()].sort((a, b) => b.record.updated - a.record.updated);
  }

  /**
   * Return the text of a file.
   *
   * @param {FileRecord} file
   * @returns {Promise<Part>}
   */
  async textOf({ id, name }) {
    const known = this.#files.get(id);
    if (known) return known;
    const stored = await find("files", id).catch(() => undefined);
    const text = ((await stored?.blob?.text()) ?? "").slice(0, MAX_FILE_CHARS);
    const part = partOf("file", text, name);
    if (this.#kept + text.length <= MAX_KEPT_CHARS) {
      this.#files.set(id, part);
      this.#kept += text.length;
    }
    return part;
  }
}

/** @returns {Promise<Map<string, Searched>>} */
async function readAll() {
  const [records, messages] = await Promise.all([all("conversations"), all("messages")]);
  const byConversation = Map.groupBy(messages, (message) => message.conversation);
  /** @type {Map<string, Searched>} */
  const known = new Map();
  const pause = pauses();
  for (const record of records) {
    if (record.deleted) continue;
    known.set(record.id, searchedOf(record, byConversation.get(record.id) ?? []));
    await pause();
  }
  return known;
}

/** Return a function that lets the page work for a moment whenever it is time. */
function pauses() {
  let began = performance.now();
  return async () => {
    if (performance.now() - began < TURN_MS) return;
    await new Promise((resolve) => setTimeout(resolve));
    began = performance.now();
  };
}

/** Finds conversations and the passages in them. */
export class Search {
  #chat;
  #library = new Library();
  #aborter = new AbortController();

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  /**
   * Forget what was read of a conversation, which has changed; null: of all.
   *
   * @param {string | null} id
   */
  forget(id) {
    this.#library.forget(id);
  }

  /** End the search that is under way. */
  cancel() {
    this.#aborter.abort();
  }

  /**
   * Find the places where all words occur, in what was changed last first; null: another search has begun since.
   *
   * @param {string} query
   * @returns {Promise<Found | null>}
   */
  async find(query) {
    this.#aborter.abort();
    const aborter = new AbortController();
    this.#aborter = aborter;
    const { signal } = aborter;
    const { history } = this.#chat;
    try {
      if (history) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      if (signal.aborted) return null;
      const { data, partial } = history
        ? await history.search(query, signal)
        : await this.#here(wordsOf(query), signal);
      return signal.aborted ? null : { query, hits: data, partial, problem: "" };
    } catch (error) {
      if (signal.aborted) return null;
      const why = problemWords(error);
      return { query, hits: [], partial: false, problem: fill(texts.sidebar.only_titles, { why }) };
    }
  }

  /**
   * @param {string[]} words
   * @param {AbortSignal} signal
   * @returns {Promise<{ data: Hit[], partial: boolean }>}
   */
  async #here(words, signal) {
    /** @type {Hit[]} */
    const data = [];
    const pause = pauses();
    for (const { record, passages } of await this.#library.read()) {
      for (const { message, role, parts, files } of passages) {
        if (signal.aborted) return { data, partial: true };
        const read = hasAll(parts, words) ? parts : await this.#withFiles(parts, files);
        if (!hasAll(read, words)) continue;
        if (data.length >= MAX_HITS) return { data, partial: true };
        const { id: conversation, title, updated } = record;
        const { where, file, text } = bestPart(read, words);
        data.push({ conversation, title, updated, message, role, where, file, ...excerptOf(text, words) });
      }
      await pause();
    }
    return { data, partial: false };
  }

  /**
   * Return the parts of a message with the texts of its files.
   *
   * @param {Part[]} parts
   * @param {FileRecord[]} files
   */
  async #withFiles(parts, files) {
    if (!files.length) return parts;
    const contents = await Promise.all(files.map((file) => this.#library.textOf(file)));
    return [...parts, ...contents];
  }
}
