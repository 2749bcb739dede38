// Where conversations, their messages and files, and settings are kept: in a database of this browser
// (IndexedDB), or on the server with the unsent changes in this browser (history/remote.js).
//
// A conversation is a tree: editing and regenerating add siblings. Tabs write whole conversations, each
// as it knows them, so what only one of them may take, a queued message, is in a record of its own that
// is changed in one transaction.

import { texts } from "../../shell/page.js";
import { keepEdited, withBlob, withBytes, withOthers } from "./records.js";

/**
 * @import {
 *   ConversationRecord, FileRecord, Place, SettingRecord, RecordGroups, Records, StoreName,
 * } from "./types.js"
 */

const VERSION = 1;
/** @type {StoreName[]} */
const STORES = ["conversations", "messages", "files", "settings"];
/** The database of guests; earlier versions used it for everybody. */
export const GUESTS = "roxy";

/** The browser has no room left. */
export class NoRoom extends Error {}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * `update` puts what `edit` makes of the stored record, if it makes something.
 *
 * @typedef {object} StoreWriter
 * @property {(value: { id: string }) => unknown} put
 * @property {(id: string) => unknown} delete
 * @property {() => unknown} clear
 * @property {(id: string, edit: (stored: any) => { id: string } | undefined) => void} update
 */

/** True while the page is being left: what is not committed at once is dropped. */
let isLeaving = false;
addEventListener("pagehide", () => {
  isLeaving = true;
});
addEventListener("pageshow", () => {
  isLeaving = false;
});

/**
 * Write a record as a tab knows it, over what another tab may have stored since.
 *
 * @param {StoreWriter} store
 * @param {Records[StoreName]} value
 * @param {ConversationRecord[]} [seen]
 */
function write(store, value, seen = []) {
  const before = seen.find(({ id }) => id === value.id);
  if (isLeaving) store.put(value);
  else if (before) store.update(value.id, (stored) => withOthers(stored, before, /** @type {any} */ (value)));
  else if ("role" in value && value.role === "assistant" && !value.edited && value.state !== "open")
    store.update(value.id, (stored) => keepEdited({ ...value }, stored));
  else store.put(value);
}

/**
 * @param {Map<string, any>} records
 * @returns {StoreWriter}
 */
function memoryWriter(records) {
  /** @param {{ id: string }} value */
  const put = (value) => records.set(value.id, structuredClone(value));
  return {
    put,
    delete: (id) => records.delete(id),
    clear: () => records.clear(),
    update: (id, edit) => {
      const edited = edit(structuredClone(records.get(id)));
      if (edited) put(edited);
    },
  };
}

/**
 * A database of this browser.
 *
 * @implements {Place}
 */
export class Database {
  /** Used where the browser has no database; it is lost with the tab. */
  #memory = Object.fromEntries(STORES.map((name) => [name, new Map()]));
  /** @type {Map<string, FileRecord>} files that are not written (yet), so that they can still be sent */
  #unwritten = new Map();
  /** @type {Promise<IDBDatabase | null> | null} */
  #opening = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** @returns {Promise<IDBDatabase | null>} */
  #open() {
    if (this.#opening) return this.#opening;
    /** @type {Promise<IDBDatabase>} */
    const opened = new Promise((resolve, reject) => {
      const request = indexedDB.open(this.name, VERSION);
      request.onupgradeneeded = () => {
        const db = request.result;
        for (const name of STORES) {
          const store = db.createObjectStore(name, { keyPath: "id" });
          if (name === "messages" || name === "files") store.createIndex("conversation", "conversation");
        }
      };
      request.onsuccess = () => {
        request.result.onversionchange = () => this.leave(); // the person has signed out in another tab
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
    this.#opening = opened.catch(() => null);
    return this.#opening;
  }

  /** Close the database for good; what is written later is lost with the tab. */
  async close() {
    const opening = this.#opening;
    this.#opening = Promise.resolve(null);
    (await opening)?.close();
  }

  /** Close the database because the person signs out: nothing of them is left in the session either. */
  leave() {
    this.name = "";
    return this.close();
  }

  /** True if the browser keeps records beyond this tab. */
  async isPersistent() {
    return (await this.#open()) !== null;
  }

  /** @param {StoreName} store */
  async #reading(store) {
    return (await this.#open())?.transaction(store).objectStore(store);
  }

  /**
   * Run `work` in a transaction over several stores, to its commit. Raises NoRoom.
   *
   * @param {IDBDatabase} db
   * @param {StoreName[]} stores
   * @param {(transaction: IDBTransaction, attempt: (step: () => void) => void) => void} work gets the transaction,
   *   and what runs later steps
   */
  async #transact(db, stores, work) {
    try {
      const transaction = db.transaction(stores, "readwrite");
      /** @type {unknown} */
      let failure = null;
      const done = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        // Only here the transaction knows its error; `onerror` comes before.
        transaction.onabort = () => reject(failure ?? transaction.error ?? new Error(texts.problems.nothing_saved));
      });
      /** @param {() => void} step */
      const attempt = (step) => {
        try {
          step();
        } catch (error) {
          failure = error;
          transaction.abort();
        }
      };
      attempt(() => work(transaction, attempt));
      await done;
    } catch (error) {
      if (error instanceof DOMException && error.name === "QuotaExceededError")
        throw new NoRoom(texts.problems.no_room);
      throw error;
    }
  }

  /**
   * Write to several stores at once: `work` gets a function that finds a store by its name.
   *
   * @param {StoreName[]} stores
   * @param {(at: (name: StoreName) => StoreWriter) => void} work
   */
  async #write(stores, work) {
    const db = await this.#open();
    if (!db) {
      work((name) => memoryWriter(this.#memory[name]));
      return;
    }
    await this.#transact(db, stores, (transaction, attempt) => {
      let reads = false;
      work((name) => {
        const store = transaction.objectStore(name);
        return {
          put: (value) => store.put(value),
          delete: (id) => store.delete(id),
          clear: () => store.clear(),
          update: (id, edit) => {
            reads = true;
            const reading = store.get(id);
            reading.onsuccess = () =>
              attempt(() => {
                const edited = edit(reading.result);
                if (edited) store.put(edited);
              });
          },
        };
      });
      if (!reads) transaction.commit(); // at once: a page that is left drops what is not committed
    });
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @param {string} id
   * @returns {Promise<Records[S] | undefined>}
   */
  async find(store, id) {
    const unwritten = store === "files" ? this.#unwritten.get(id) : undefined;
    if (unwritten) return /** @type {Records[S]} */ (unwritten);
    const from = await this.#reading(store);
    return withBlob(from ? await result(from.get(id)) : structuredClone(this.#memory[store].get(id)));
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @returns {Promise<Records[S][]>}
   */
  async all(store) {
    const from = await this.#reading(store);
    return from ? result(from.getAll()) : structuredClone([...this.#memory[store].values()]);
  }

  /**
   * @template {"messages" | "files"} S
   * @param {S} store
   * @param {string} conversation
   * @returns {Promise<Records[S][]>}
   */
  async within(store, conversation) {
    const from = await this.#reading(store);
    const found = from
      ? await result(from.index("conversation").getAll(conversation))
      : (await this.all(store)).filter((one) => one.conversation === conversation);
    return store === "files" ? found.map(withBlob) : found;
  }

  /** @param {RecordGroups} groups */
  async putAll(groups) {
    const stores = STORES.filter((name) => groups[name]);
    for (const file of groups.files ?? []) this.#unwritten.set(file.id, file);
    const files = groups.files && (await Promise.all(groups.files.map(withBytes)));
    const written = { ...groups, files };
    await this.#write(stores, (at) => {
      for (const store of stores) for (const value of written[store] ?? []) write(at(store), value, groups.seen);
    });
    for (const file of groups.files ?? []) this.#unwritten.delete(file.id);
  }

  /**
   * @param {string} id
   * @param {Partial<ConversationRecord>} changes
   */
  async change(id, changes) {
    /** @type {ConversationRecord | undefined} */
    let changed;
    await this.#write(["conversations"], (at) => {
      at("conversations").update(id, (stored) => {
        changed = stored && { ...stored, ...changes };
        return changed;
      });
    });
    return changed;
  }

  /**
   * @template {SettingRecord} R, T
   * @param {R} initial
   * @param {(record: R) => T} edit
   * @returns {Promise<T | undefined>}
   */
  async changeSetting(initial, edit) {
    /** @type {T | undefined} */
    let returned;
    await this.#write(["settings"], (at) => {
      at("settings").update(initial.id, (stored) => {
        const record = stored ?? initial;
        returned = edit(record);
        return record;
      });
    });
    return returned;
  }

  /** @param {string} id */
  async erase(id) {
    const [messages, files] = await Promise.all([this.within("messages", id), this.within("files", id)]);
    await this.#write(STORES, (at) => {
      at("conversations").delete(id);
      at("settings").delete(queueId(id));
      for (const message of messages) at("messages").delete(message.id);
      for (const file of files) at("files").delete(file.id);
    });
  }

  /** @param {string} id */
  takeBack(id) {
    return this.erase(id);
  }

  /**
   * Delete single records.
   *
   * @param {StoreName} store
   * @param {string[]} ids
   */
  remove(store, ids) {
    return this.#write([store], (at) => {
      for (const id of ids) at(store).delete(id);
    });
  }

  /** @param {string[]} ids */
  eraseMessages(ids) {
    return this.remove("messages", ids);
  }

  isStored = () => Promise.resolve(false);

  async eraseAll() {
    const waiting = (await this.all("settings")).filter(({ id }) => id.startsWith(queueId("")) || id === "new");
    await this.#write(STORES, (at) => {
      for (const name of STORES) if (name !== "settings") at(name).clear();
      for (const { id } of waiting) at("settings").delete(id);
    });
  }
}

/** @type {Place} */
let place = new Database(GUESTS);

/**
 * Keep everything at another place from now on; called once, before anything is read.
 *
 * @param {Place} chosen
 */
export function keepAt(chosen) {
  place = chosen;
}

/** Return a name for the person whose records these are, "" once they have signed out. */
export const placeName = () => place.name;

/**
 * Keep everything at a place that is made from the present one. Returns it.
 *
 * @template {Place} P
 * @param {(kept: Place) => P} wrap
 */
export function wrapPlace(wrap) {
  const wrapped = wrap(place);
  place = wrapped;
  return wrapped;
}

/** True if what is written outlives this tab. */
export const isPersistent = () => place.isPersistent();

/**
 * Return one record, undefined when there is none.
 *
 * @template {StoreName} S
 * @param {S} store
 * @param {string} id
 * @returns {Promise<Records[S] | undefined>}
 */
export const find = (store, id) => place.find(store, id);

/**
 * Return every record of a store. From the server come only conversations, and only with what lists show.
 *
 * @template {StoreName} S
 * @param {S} store
 * @returns {Promise<Records[S][]>}
 */
export const all = (store) => place.all(store);

/**
 * Return a conversation's messages or files.
 *
 * @template {"messages" | "files"} S
 * @param {S} store
 * @param {string} conversation
 * @returns {Promise<Records[S][]>}
 */
export const within = (store, conversation) => place.within(store, conversation);

/**
 * Save records.
 *
 * @template {StoreName} S
 * @param {S} store
 * @param {...Records[S]} values
 */
export const put = (store, ...values) => putAll({ [store]: values });

/**
 * Save records of several stores, all or none: `{ messages: [...], files: [...] }`.
 *
 * @param {RecordGroups} groups
 */
export const putAll = (groups) => place.putAll(groups);

/**
 * Change members of a conversation's record and return it, undefined when there is none.
 *
 * @param {string} id
 * @param {Partial<ConversationRecord>} changes
 */
export const change = (id, changes) => place.change(id, changes);

/**
 * Change a setting, or the queue of a conversation, in one step for all tabs; `initial` where there is none yet.
 * Returns what `edit` returns.
 *
 * @template {SettingRecord} R, T
 * @param {R} initial
 * @param {(record: R) => T} edit
 * @returns {Promise<T | undefined>}
 */
export const changeSetting = (initial, edit) => place.changeSetting(initial, edit);

/**
 * Delete a conversation with everything in it.
 *
 * @param {string} id
 */
export const erase = (id) => place.erase(id);

/**
 * Delete a conversation that was not started after all; it may be saved again with the same id.
 *
 * @param {string} id
 */
export const takeBack = (id) => place.takeBack(id);

/**
 * Delete single messages.
 *
 * @param {...string} ids
 */
export const eraseMessages = (...ids) => place.eraseMessages(ids);

/**
 * True if the server has a file, so that a request may name it instead of holding it.
 *
 * @param {string} id
 */
export const isStored = (id) => place.isStored(id);

/** Delete all conversations with everything in them. */
export const eraseAll = () => place.eraseAll();

/**
 * Return the id of the queue of a conversation.
 *
 * @param {string} id
 */
export const queueId = (id) => `waiting:${id}`;
