// Temporary chats: kept in the memory of this tab alone, and gone when another chat is opened.

import { Database, queueId, takeBack, wrapPlace } from "../state/store.js";

/** @import { Chat } from "../state/chat.js" */
/**
 * @import {
 *   ConversationRecord, Place, SettingRecord, RecordGroups, Records, StoreName,
 * } from "../state/types.js"
 */

const QUEUE = queueId("");

/**
 * Keeps the records of temporary chats in memory, and all others at another place.
 *
 * @implements {Place}
 */
class WithTemporary {
  #kept;
  #memory = new Database("temporary");
  /** The ids of temporary chats, also of those that are gone: an answer may end later. */
  #ids = new Set();

  /** @param {Place} kept */
  constructor(kept) {
    this.#kept = kept;
    this.#memory.close(); // before anything is written: from here on it only has the tab's memory
  }

  get name() {
    return this.#kept.name;
  }

  /** @param {string} id of a conversation */
  add(id) {
    this.#ids.add(id);
  }

  /** @param {string} id of a conversation */
  #at(id) {
    return this.#ids.has(id) ? this.#memory : this.#kept;
  }

  isPersistent() {
    return this.#kept.isPersistent();
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @param {string} id
   * @returns {Promise<Records[S] | undefined>}
   */
  async find(store, id) {
    return (await this.#memory.find(store, id)) ?? this.#kept.find(store, id);
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @returns {Promise<Records[S][]>}
   */
  all(store) {
    return this.#kept.all(store);
  }

  /**
   * @template {"messages" | "files"} S
   * @param {S} store
   * @param {string} conversation
   * @returns {Promise<Records[S][]>}
   */
  within(store, conversation) {
    return this.#at(conversation).within(store, conversation);
  }

  /** @param {RecordGroups} groups */
  async putAll({ conversations = [], messages = [], files = [], settings = [], seen = [] }) {
    /** @param {string | undefined} id */
    const isHere = (id) => id !== undefined && this.#ids.has(id);
    /** @param {boolean} here */
    const part = (here) => ({
      conversations: conversations.filter(({ id }) => isHere(id) === here),
      seen: seen.filter(({ id }) => isHere(id) === here),
      messages: messages.filter(({ conversation }) => isHere(conversation) === here),
      files: files.filter(({ conversation }) => isHere(conversation) === here),
      // The record of a chat without messages is kept as a setting.
      settings: settings.filter(({ value }) => isHere(value?.id) === here && !(here && value)),
    });
    for (const [place, groups] of /** @type {const} */ ([
      [this.#memory, part(true)],
      [this.#kept, part(false)],
    ])) {
      const filled = Object.entries(groups).filter(([, records]) => records.length);
      if (filled.length) await place.putAll(Object.fromEntries(filled));
    }
  }

  /**
   * @param {string} id
   * @param {Partial<ConversationRecord>} changes
   */
  change(id, changes) {
    return this.#at(id).change(id, changes);
  }

  /**
   * @template {SettingRecord} R, T
   * @param {R} initial
   * @param {(record: R) => T} edit
   * @returns {Promise<T | undefined>}
   */
  changeSetting(initial, edit) {
    return this.#at(initial.id.slice(QUEUE.length)).changeSetting(initial, edit);
  }

  /** @param {string} id */
  async isStored(id) {
    return !(await this.#memory.find("files", id)) && this.#kept.isStored(id);
  }

  /** @param {string} id */
  erase(id) {
    return this.#at(id).erase(id);
  }

  /** @param {string} id */
  takeBack(id) {
    return this.#at(id).takeBack(id);
  }

  /** @param {string[]} ids */
  async eraseMessages(ids) {
    const found = await Promise.all(ids.map((id) => this.#memory.find("messages", id)));
    const kept = ids.filter((_, n) => !found[n]);
    await this.#memory.eraseMessages(ids.filter((_, n) => found[n]));
    if (kept.length) await this.#kept.eraseMessages(kept);
  }

  eraseAll() {
    return this.#kept.eraseAll();
  }
}

/** @type {WithTemporary | null} */
let place = null;

/** @param {Chat} chat */
async function prepare(chat) {
  await chat.joining; // where the history is on the server, its place comes a little later
  if (place) return place;
  const made = wrapPlace((kept) => new WithTemporary(kept));
  place = made;
  let shown = "";
  chat.on("opened", async () => {
    const gone = shown;
    shown = chat.current?.record.temporary ? chat.current.id : "";
    if (!gone || gone === shown) return;
    for (const answer of (await chat.loadAnswers()).in(gone)) answer.stop();
    await made.erase(gone);
  });
  return made;
}

/**
 * Open a temporary chat, or leave it; what is typed comes along.
 *
 * @param {Chat} chat
 * @param {import("../state/types.js").Draft | null} typed
 */
export async function toggleTemporary(chat, typed) {
  const before = chat.current;
  if (!before) return;
  if (before.record.temporary) await chat.open(null);
  else {
    const made = await prepare(chat);
    await chat.open(null, { temporary: (id) => made.add(id) });
    if (!before.started) {
      await before.saveDraft("", []);
      await takeBack(before.id);
    }
  }
  if (typed) chat.emit("returned", typed);
}
