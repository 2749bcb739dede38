// The browser's database (IndexedDB): conversations, their messages and files, and settings.
//
// A conversation is a tree: editing and regenerating add siblings. Tabs write whole conversations, each
// as it knows them, so what only one of them may take, a queued message, is in a record of its own that
// is changed in one transaction.

/** @import { ConversationRecord, QueueRecord, Records, StoreName } from "./types.js" */

const NAME = "roxy";
const VERSION = 1;
/** @type {StoreName[]} */
const STORES = ["conversations", "messages", "files", "settings"];
const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";

/** @type {Promise<IDBDatabase | null> | null} */
let opening = null;
/** Used where the browser has no database; it is lost with the tab. */
const memory = Object.fromEntries(STORES.map((name) => [name, new Map()]));

/** @returns {Promise<IDBDatabase | null>} */
function open() {
  if (opening) return opening;
  /** @type {Promise<IDBDatabase>} */
  const opened = new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const db = request.result;
      for (const name of STORES) {
        const store = db.createObjectStore(name, { keyPath: "id" });
        if (name === "messages" || name === "files") store.createIndex("conversation", "conversation");
      }
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
  opening = opened.catch(() => null);
  return opening;
}

/** True if the browser keeps records beyond this tab. */
export const isPersistent = async () => (await open()) !== null;

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

/** @param {StoreName} store */
async function reading(store) {
  return (await open())?.transaction(store).objectStore(store);
}

/** The browser has no room left. */
export class NoRoom extends Error {}

/** @typedef {{ put(value: { id: string }): unknown, delete(id: string): unknown }} StoreWriter */

/**
 * Run `work` in a transaction over several stores, to its commit. Raises NoRoom.
 *
 * @param {IDBDatabase} db
 * @param {StoreName[]} stores
 * @param {(transaction: IDBTransaction) => void} work
 */
async function transact(db, stores, work) {
  try {
    const transaction = db.transaction(stores, "readwrite");
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = transaction.onerror;
    });
    work(transaction);
    await done;
  } catch (error) {
    if (error instanceof DOMException && error.name === "QuotaExceededError")
      throw new NoRoom("The browser has no room left.");
    throw error;
  }
}

/**
 * Write to several stores at once: `work` gets a function that finds a store by its name.
 *
 * @param {StoreName[]} stores
 * @param {(at: (name: StoreName) => StoreWriter) => void} work
 */
async function write(stores, work) {
  const db = await open();
  if (!db) {
    work((name) => ({
      put: (value) => memory[name].set(value.id, structuredClone(value)),
      delete: (id) => memory[name].delete(id),
    }));
    return;
  }
  await transact(db, stores, (transaction) => {
    work((name) => transaction.objectStore(name));
    transaction.commit(); // at once: a page that is left drops what is not committed
  });
}

/**
 * Return a new id that cannot be guessed; it needs no secure context.
 *
 * @param {string} prefix
 */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(20));
  return prefix + Array.from(bytes, (byte) => ID_ALPHABET[byte % 36]).join("");
}

/**
 * Return one record, undefined when there is none.
 *
 * @template {StoreName} S
 * @param {S} store
 * @param {string} id
 * @returns {Promise<Records[S] | undefined>}
 */
export async function find(store, id) {
  const from = await reading(store);
  return from ? result(from.get(id)) : structuredClone(memory[store].get(id));
}

/**
 * Return every record of a store.
 *
 * @template {StoreName} S
 * @param {S} store
 * @returns {Promise<Records[S][]>}
 */
export async function all(store) {
  const from = await reading(store);
  return from ? result(from.getAll()) : structuredClone([...memory[store].values()]);
}

/**
 * Return a conversation's messages or files.
 *
 * @template {"messages" | "files"} S
 * @param {S} store
 * @param {string} conversation
 * @returns {Promise<Records[S][]>}
 */
export async function within(store, conversation) {
  const from = await reading(store);
  if (from) return result(from.index("conversation").getAll(conversation));
  return (await all(store)).filter((one) => one.conversation === conversation);
}

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
 * @param {{ [S in StoreName]?: Records[S][] }} groups
 */
export function putAll(groups) {
  const stores = STORES.filter((name) => groups[name]);
  return write(stores, (at) => {
    for (const store of stores) for (const value of groups[store] ?? []) at(store).put(value);
  });
}

/**
 * Change the stored queue of a conversation, in one step for all tabs; `initial` where there is none yet.
 * Returns what `edit` returns.
 *
 * @template T
 * @param {QueueRecord} initial
 * @param {(record: QueueRecord) => T} edit
 * @returns {Promise<T | undefined>}
 */
export async function changeQueue(initial, edit) {
  const db = await open();
  if (!db) {
    const records = memory.settings;
    if (!records.has(initial.id)) records.set(initial.id, initial);
    return edit(records.get(initial.id));
  }
  /** @type {T | undefined} */
  let returned;
  await transact(db, ["settings"], (transaction) => {
    const store = transaction.objectStore("settings");
    const reading = store.get(initial.id);
    reading.onsuccess = () => {
      const record = reading.result ?? initial;
      returned = edit(record);
      store.put(record);
    };
  });
  return returned;
}

/**
 * Delete a conversation with everything in it.
 *
 * @param {string} id
 */
export async function erase(id) {
  const [messages, files] = await Promise.all([within("messages", id), within("files", id)]);
  await write(STORES, (at) => {
    at("conversations").delete(id);
    at("settings").delete(queueId(id));
    for (const message of messages) at("messages").delete(message.id);
    for (const file of files) at("files").delete(file.id);
  });
}

/**
 * Delete single messages.
 *
 * @param {...string} ids
 */
export const eraseMessages = (...ids) =>
  write(["messages"], (at) => {
    for (const id of ids) at("messages").delete(id);
  });

/**
 * Return the record of a new conversation; it is saved with its first message or draft.
 *
 * @param {string} model
 * @returns {ConversationRecord}
 */
export function newConversation(model) {
  const now = Date.now();
  return {
    id: newId("c_"),
    title: "",
    created: now,
    updated: now,
    pinned: false,
    model,
    system: "",
    parameters: {},
    choices: {},
    draft: null,
    deleted: null,
  };
}

/**
 * Return the id of the queue of a conversation.
 *
 * @param {string} id
 */
export const queueId = (id) => `waiting:${id}`;
