// What the browser keeps: conversations, their messages and files, in IndexedDB.
//
//   conversations  { id, title, created, updated, pinned, model, system, parameters, choices,
//                    draft, deleted }
//   messages       { id, conversation, parent, role, text, created, files, ... }
//   files          { id, conversation, name, type, size, blob }
//   settings       { id, value }, and for each conversation with messages that wait for their turn
//                  { id: "waiting:" + its id, messages, served }
//
// A conversation is a tree: editing and regenerating add siblings. `choices` tells which child of a
// message is shown; without a choice it is the newest. `served` is the answer after which the last
// message that waited was taken. Tabs write whole conversations, each as it knows them, so what only
// one of them may take is a record of its own, changed in one step.

const NAME = "roxy";
const VERSION = 1;
const STORES = ["conversations", "messages", "files", "settings"];
const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";

let opening = null;
/** What stands in for the database where the browser has none: gone with the tab. */
const memory = new Map(STORES.map((name) => [name, new Map()]));

function open() {
  opening ??= new Promise((resolve, reject) => {
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
  }).catch(() => null);
  return opening;
}

/** Say whether the browser keeps what it is given. */
export const keeps = async () => (await open()) !== null;

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function reading(store) {
  return (await open())?.transaction(store).objectStore(store);
}

/** The browser has no room left. */
export class NoRoom extends Error {}

/**
 * Write to several stores at once: `act` is given a function that finds a store by its name. Unless
 * it `asks` for something first, all is committed at once: a page that is left drops what is not.
 */
async function writing(stores, act, asks = false) {
  const db = await open();
  if (!db) {
    act((name) => ({
      put: (value) => memory.get(name).set(value.id, structuredClone(value)),
      delete: (id) => memory.get(name).delete(id),
    }));
    return;
  }
  try {
    const transaction = db.transaction(stores, "readwrite");
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
    act((name) => transaction.objectStore(name));
    if (!asks) transaction.commit();
    await done;
  } catch (error) {
    if (error?.name === "QuotaExceededError") throw new NoRoom("The browser has no room left.");
    throw error;
  }
}

/** Make an id that nobody guesses; works without a secure context too. */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(20));
  return prefix + Array.from(bytes, (byte) => ID_ALPHABET[byte % 36]).join("");
}

/** Find one record; undefined when there is none. */
export async function find(store, id) {
  const from = await reading(store);
  return from ? result(from.get(id)) : structuredClone(memory.get(store).get(id));
}

/** Give every record of a store. */
export async function all(store) {
  const from = await reading(store);
  return from ? result(from.getAll()) : structuredClone([...memory.get(store).values()]);
}

/** Give a conversation's messages or files. */
export async function within(store, conversation) {
  const from = await reading(store);
  if (from) return result(from.index("conversation").getAll(conversation));
  return (await all(store)).filter((one) => one.conversation === conversation);
}

/** Keep records. */
export const put = (store, ...values) => putAll({ [store]: values });

/** Keep several things at once, or none: { messages: [...], files: [...] }. */
export function putAll(groups) {
  return writing(Object.keys(groups), (at) => {
    for (const [store, values] of Object.entries(groups)) {
      for (const value of values) at(store).put(value);
    }
  });
}

/**
 * Change a record as it is kept, in one step for all tabs; where there is none, `made`. Gives what
 * `edit` gives.
 */
export async function change(store, made, edit) {
  if (!(await open())) {
    const records = memory.get(store);
    if (!records.has(made.id)) records.set(made.id, made);
    return edit(records.get(made.id));
  }
  let given;
  const act = (at) => {
    at(store).get(made.id).onsuccess = ({ target: { result: record = made } }) => {
      given = edit(record);
      at(store).put(record);
    };
  };
  await writing([store], act, true);
  return given;
}

/** Forget a conversation for good. */
export async function erase(id) {
  const [messages, files] = await Promise.all([within("messages", id), within("files", id)]);
  await writing(STORES, (at) => {
    at("conversations").delete(id);
    at("settings").delete(waitingOf(id));
    for (const message of messages) at("messages").delete(message.id);
    for (const file of files) at("files").delete(file.id);
  });
}

/** Forget single messages. */
export const eraseMessages = (...ids) =>
  writing(["messages"], (at) => {
    for (const id of ids) at("messages").delete(id);
  });

/** Begin a conversation; it is kept once it has a message or a draft. */
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

/** Give the id of the record of what waits in a conversation. */
export const waitingOf = (id) => `waiting:${id}`;

const ROOT = "root";

/** The messages of one conversation as a tree. */
export class Tree {
  constructor(conversation, messages) {
    this.conversation = conversation;
    this.messages = new Map();
    this.children = new Map([[ROOT, []]]);
    this.earlier = new Map(); // by the message's id: which sibling was shown before it
    for (const message of messages.sort((a, b) => a.created - b.created)) this.add(message);
  }

  /** Take a message in; it becomes the one that is shown among its siblings. */
  add(message, chosen = false) {
    this.messages.set(message.id, message);
    const parent = message.parent ?? ROOT;
    if (!this.children.has(parent)) this.children.set(parent, []);
    this.children.get(parent).push(message.id);
    if (!chosen) return;
    this.earlier.set(message.id, this.conversation.choices[parent]);
    this.conversation.choices[parent] = message.id;
  }

  /** Take a message without children out again; the sibling that it took the place of is back. */
  remove(message) {
    const parent = message.parent ?? ROOT;
    this.messages.delete(message.id);
    this.children.set(
      parent,
      this.children.get(parent).filter((id) => id !== message.id),
    );
    if (this.conversation.choices[parent] !== message.id) return;
    const earlier = this.earlier.get(message.id);
    if (this.messages.has(earlier)) this.conversation.choices[parent] = earlier;
    else delete this.conversation.choices[parent];
  }

  /** Give the messages that stand beside a message, itself included, oldest first. */
  siblings(message) {
    return (this.children.get(message.parent ?? ROOT) ?? []).map((id) => this.messages.get(id));
  }

  /** Show another sibling. */
  choose(message) {
    this.conversation.choices[message.parent ?? ROOT] = message.id;
  }

  /** Give the messages that are shown, from the first to the last. */
  path() {
    const shown = [];
    let at = ROOT;
    while (true) {
      const ids = this.children.get(at) ?? [];
      if (!ids.length) return shown;
      const chosen = this.conversation.choices[at];
      const message = this.messages.get(ids.includes(chosen) ? chosen : ids.at(-1));
      shown.push(message);
      at = message.id;
    }
  }

  /** Give the messages from the first down to this one. */
  before(message) {
    const line = [];
    for (let at = message; at; at = this.messages.get(at.parent)) line.unshift(at);
    return line;
  }
}
