// The search: on the server for people who have signed in, else in this browser.

import { fill, texts } from "../../shell/page.js";
import { all } from "../state/store.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord } from "../state/types.js" */

/**
 * A place where the words were found; `message` is null for a title or a system prompt. `match` is the place of a
 * word in the excerpt.
 *
 * @typedef {object} Hit
 * @property {string} conversation
 * @property {string} title
 * @property {string | null} message
 * @property {"title" | "text" | "system" | "file"} where
 * @property {string} excerpt
 * @property {[number, number]} match
 * @property {number} updated
 */

/** @typedef {{ query: string, hits: Hit[], partial: boolean, problem: string }} Found */

/** @typedef {{ message: string | null, where: Hit["where"], text: string, folded: string, files: string }} Passage */
/** @typedef {{ record: ConversationRecord, passages: Passage[] }} Searched */

const MOST_HITS = 200;
const BEFORE = 24;
const AFTER = 60;
/** Between the last key and the question to the server. */
const PAUSE_MS = 150;

/** @param {string} text */
const fold = (text) => text.normalize("NFKC").toLowerCase();

/**
 * Return the words of a query.
 *
 * @param {string} query
 */
export const wordsOf = (query) => [...new Set(fold(query).split(/\s+/).filter(Boolean))];

/**
 * Return the passage of a text around a word, and the word's place in it.
 *
 * @param {string} text
 * @param {string} word
 * @returns {{ excerpt: string, match: [number, number] }}
 */
export function excerptOf(text, word) {
  const at = text.toLowerCase().indexOf(word);
  const from = Math.max(at - BEFORE, 0);
  const to = Math.max(at, 0) + word.length + AFTER;
  const start = from ? "…" : "";
  const excerpt = `${start}${text.slice(from, to)}${to < text.length ? "…" : ""}`.replace(/\s/g, " ");
  const begin = start.length + at - from;
  return { excerpt, match: at < 0 ? [0, 0] : [begin, begin + word.length] };
}

/** Finds conversations and the passages in them. */
export class Search {
  #chat;
  /** @type {Searched[] | null} everything in this browser, read once */
  #texts = null;
  #aborter = new AbortController();

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  /** Forget what was read: conversations have changed. */
  forget() {
    this.#texts = null;
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
    const { history } = this.#chat;
    try {
      if (history) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      if (aborter.signal.aborted) return null;
      if (!history) return { query, hits: await this.#here(wordsOf(query)), partial: false, problem: "" };
      const { data, partial } = await history.search(query, aborter.signal);
      return { query, hits: data, partial, problem: "" };
    } catch (error) {
      if (aborter.signal.aborted) return null;
      const why = error instanceof Error ? error.message : String(error);
      return { query, hits: [], partial: false, problem: fill(texts.sidebar.only_titles, { why }) };
    }
  }

  /** @param {string[]} words */
  async #here(words) {
    this.#texts ??= await readAll();
    /** @type {Hit[]} */
    const hits = [];
    for (const { record, passages } of this.#texts) {
      const { id: conversation, title, updated } = record;
      for (const { message, where, text, folded, files } of passages) {
        if (!words.every((word) => folded.includes(word))) continue;
        const isFile = !words.some((word) => fold(text).includes(word));
        const shown = isFile && files ? files : text;
        const word = words.find((one) => shown.toLowerCase().includes(one)) ?? words[0];
        hits.push({ conversation, title, updated, message, where: isFile ? "file" : where, ...excerptOf(shown, word) });
        if (hits.length >= MOST_HITS) return hits;
      }
    }
    return hits;
  }
}

/** @returns {Promise<Searched[]>} */
async function readAll() {
  const [records, messages] = await Promise.all([all("conversations"), all("messages")]);
  const byConversation = Map.groupBy(messages, (message) => message.conversation);
  const shown = records.filter((record) => !record.deleted).sort((a, b) => b.updated - a.updated);
  return shown.map((record) => {
    /** @type {Passage[]} */
    const passages = [
      { message: null, where: "title", text: record.title, folded: fold(record.title), files: "" },
      ...(record.system
        ? [
            {
              message: null,
              where: /** @type {const} */ ("system"),
              text: record.system,
              folded: fold(record.system),
              files: "",
            },
          ]
        : []),
    ];
    for (const message of byConversation.get(record.id) ?? []) {
      const files = message.role === "user" ? (message.files ?? []).map(({ name }) => name).join(", ") : "";
      const folded = fold(`${message.text}\n${files}`);
      passages.push({ message: message.id, where: "text", text: message.text, folded, files });
    }
    return { record, passages };
  });
}
