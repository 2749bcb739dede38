// What the server does not have yet, by conversation. It is kept in this browser's database until it is
// sent, so that a reload or a lost connection loses nothing.

import { joinDrafts } from "../state/records.js";

/** @import { Database } from "../state/store.js" */
/** @import { Draft, Message } from "../state/types.js" */
/** @import { Sent } from "./wire.js" */

/**
 * The unsent changes of a conversation. `was`: the title and the system prompt that those in `set` were made from.
 * `bases`: the versions that messages were changed from, by their ids; of a draft, `base` is the version that it was
 * made from and `was` that draft. `remove`: messages by their ids, as the person saw them. `files`: ids of files whose
 * contents are in this browser's database. `version`: the one at which the person has deleted the conversation.
 * `erase`: it goes for good.
 *
 * @typedef {object} Unsent
 * @property {string} conversation
 * @property {Sent} set
 * @property {Record<string, string>} was
 * @property {{ value: Draft | null, base: number | null, was?: Draft | null } | null} draft
 * @property {Record<string, Message>} messages
 * @property {Record<string, number | null>} bases
 * @property {Record<string, Seen>} remove
 * @property {string[]} files
 * @property {boolean} erase
 * @property {number | null} version
 */

/**
 * A message as it was removed: its version (null: the server did not have it), and how many events of an answer
 * had been read.
 *
 * @typedef {{ base: number | null, seq: number }} Seen
 */

/** @typedef {{ id: string, value: Unsent }} Kept */

const PREFIX = "outbox:";

/**
 * @param {string} conversation
 * @returns {Unsent}
 */
export const nothing = (conversation) => ({
  conversation,
  set: {},
  was: {},
  draft: null,
  messages: {},
  bases: {},
  remove: {},
  files: [],
  erase: false,
  version: null,
});

/**
 * Return changes that an earlier release may have kept: those had no bases.
 *
 * @param {Unsent} kept
 * @returns {Unsent}
 */
const completed = (kept) => ({
  ...nothing(kept.conversation),
  ...kept,
  remove: Array.isArray(kept.remove)
    ? Object.fromEntries(kept.remove.map((/** @type {string} */ id) => [id, { base: null, seq: 0 }]))
    : kept.remove,
});

/** @param {Unsent} unsent */
const isEmpty = ({ set, draft, messages, remove, files, erase }) =>
  !draft && !erase && ![set, messages, remove, files].some((part) => Object.keys(part).length);

/**
 * Return earlier and later changes as one.
 *
 * @param {Unsent | undefined} earlier
 * @param {Unsent} later
 * @returns {Unsent}
 */
export function merged(earlier, later) {
  if (!earlier) return later;
  if (later.erase) return { ...nothing(later.conversation), erase: true, version: later.version };
  const set = { ...earlier.set, ...later.set };
  for (const name of ["choices", "extra"])
    if (earlier.set[name] || later.set[name]) set[name] = { ...earlier.set[name], ...later.set[name] };
  const messages = { ...earlier.messages, ...later.messages };
  for (const id of Object.keys(later.remove)) delete messages[id];
  const remove = { ...later.remove, ...earlier.remove };
  for (const id of Object.keys(later.messages)) delete remove[id];
  /** @type {Unsent["bases"]} */
  const bases = {};
  for (const id of Object.keys(messages)) bases[id] = (id in earlier.messages ? earlier : later).bases[id] ?? null;
  return {
    conversation: later.conversation,
    set,
    was: { ...later.was, ...earlier.was },
    draft: later.draft && { ...(earlier.draft ?? later.draft), value: later.draft.value },
    ...(later.draft ? {} : { draft: earlier.draft }),
    messages,
    bases,
    remove,
    files: [...new Set([...earlier.files, ...later.files])],
    erase: earlier.erase,
    version: later.set.deleted === undefined ? earlier.version : later.version,
  };
}

/** The unsent changes of this tab. */
export class Outbox {
  #database;
  #tab;
  /** @type {Map<string, Unsent>} by conversation */
  #waiting = new Map();
  /** @type {Map<string, Unsent>} what is being sent */
  #sending = new Map();

  /**
   * @param {Database} database
   * @param {string} tab
   */
  constructor(database, tab) {
    this.#database = database;
    this.#tab = tab;
  }

  /** The conversations with unsent changes. */
  get conversations() {
    return [...new Set([...this.#sending.keys(), ...this.#waiting.keys()])];
  }

  /** The conversations whose changes wait to be sent. */
  get waiting() {
    return [...this.#waiting.keys()].filter((id) => !this.#sending.has(id));
  }

  /**
   * Return everything unsent of a conversation as one change.
   *
   * @param {string} id
   */
  of(id) {
    const waiting = this.#waiting.get(id);
    const sending = this.#sending.get(id);
    return waiting ? merged(sending, waiting) : sending;
  }

  /**
   * Return what waits behind a change that is being sent.
   *
   * @param {string} id
   */
  waitingOf(id) {
    return this.#waiting.get(id);
  }

  /**
   * True while a conversation's changes are on their way.
   *
   * @param {string} id
   */
  isSending(id) {
    return this.#sending.has(id);
  }

  /**
   * Add changes, and return once this browser keeps them.
   *
   * @param {string} id
   * @param {Partial<Unsent>} changes
   */
  add(id, changes) {
    this.#waiting.set(id, merged(this.#waiting.get(id), { ...nothing(id), ...changes }));
    return this.#keep(id);
  }

  /**
   * Take a conversation's changes to send them; they stay in the database until `sent`.
   *
   * @param {string} id
   */
  take(id) {
    const unsent = this.#waiting.get(id);
    if (!unsent || this.#sending.has(id)) return undefined;
    this.#waiting.delete(id);
    this.#sending.set(id, unsent);
    return unsent;
  }

  /**
   * Note that what was taken is on the server.
   *
   * @param {string} id
   */
  sent(id) {
    this.#sending.delete(id);
    return this.#keep(id);
  }

  /**
   * Put back what was taken: it could not be sent.
   *
   * @param {string} id
   */
  restore(id) {
    const unsent = this.of(id);
    this.#sending.delete(id);
    if (unsent) this.#waiting.set(id, unsent);
  }

  /**
   * Join a waiting draft with the stored one of another device, and make it a change of that.
   *
   * @param {string} id
   * @param {Draft} stored
   * @param {Unsent["draft"]} sent what was not taken
   * @param {number} base
   */
  async joinDraft(id, stored, sent, base) {
    const unsent = this.#waiting.get(id) ?? nothing(id);
    const value = joinDrafts(stored, (unsent.draft ?? sent)?.value ?? null, sent?.was);
    this.#waiting.set(id, { ...unsent, draft: { value, base, was: stored } });
    await this.#keep(id);
  }

  /**
   * Set a text of a conversation, as a change of the one that the server has.
   *
   * @param {string} id
   * @param {string} name
   * @param {string} text
   * @param {string} stored
   */
  setFrom(id, name, text, stored) {
    const { set, was, ...others } = this.#waiting.get(id) ?? nothing(id);
    this.#waiting.set(id, { ...others, set: { ...set, [name]: text }, was: { ...was, [name]: stored } });
    return this.#keep(id);
  }

  /**
   * Note the version of the draft on the server: a waiting draft follows it.
   *
   * @param {string} id
   * @param {number} base
   */
  rebaseDraft(id, base) {
    const draft = this.#waiting.get(id)?.draft;
    if (draft) draft.base = base;
  }

  /**
   * Note that a change of this tab has made a version of a message: what waits behind it was made from that.
   *
   * @param {string} id
   * @param {string} message
   * @param {number | null} from
   * @param {number} to
   */
  rebaseMessage(id, message, from, to) {
    const waiting = this.#waiting.get(id);
    const removed = waiting?.remove[message];
    if (removed && removed.base === from) removed.base = to;
    if (waiting?.messages[message] && (waiting.bases[message] ?? null) === from) waiting.bases[message] = to;
  }

  /**
   * Note that a change of this tab has made a version of a conversation: the one that is to be erased follows it.
   *
   * @param {string} id
   * @param {number} version
   */
  rebaseErasure(id, version) {
    const waiting = this.#waiting.get(id);
    if (waiting?.version === version - 1) waiting.version = version;
  }

  /**
   * Forget a waiting change of a message: the server has another one.
   *
   * @param {string} id
   * @param {string} message
   */
  forgetMessage(id, message) {
    delete this.#waiting.get(id)?.messages[message];
  }

  /**
   * Forget a conversation's changes.
   *
   * @param {string} id
   */
  drop(id) {
    this.#waiting.delete(id);
    this.#sending.delete(id);
    return this.#keep(id);
  }

  /** @param {string} id */
  async #keep(id) {
    const record = `${PREFIX}${this.#tab}:${id}`;
    const unsent = this.of(id);
    try {
      if (unsent && !isEmpty(unsent)) await this.#database.putAll({ settings: [{ id: record, value: unsent }] });
      else await this.#database.remove("settings", [record]);
    } catch {
      // This browser has no room left, or the person has signed out: it is sent from memory.
    }
  }

  /**
   * Take over what tabs that are gone have left. Returns the ids of the conversations.
   *
   * @param {Set<string>} alive the other tabs
   * @param {string} [only] the tab to take over, instead of all
   */
  async adopt(alive, only) {
    const left = (await this.#database.all("settings")).filter(({ id }) => {
      const [, tab] = id.startsWith(PREFIX) ? id.split(":") : [];
      return tab && tab !== this.#tab && !alive.has(tab) && (!only || tab === only);
    });
    for (const { id, value: kept } of /** @type {Kept[]} */ (left)) {
      const value = completed(kept);
      const { conversation } = value;
      const later = this.#waiting.get(conversation);
      this.#waiting.set(conversation, later ? merged(value, later) : value);
      await this.#keep(conversation);
      await this.#database.remove("settings", [id]);
    }
    return /** @type {Kept[]} */ (left).map(({ value }) => value.conversation);
  }
}
