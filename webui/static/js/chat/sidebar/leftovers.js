// What tabs of guests go on writing in this browser after their chats were moved to the server: it is sent
// after them without a question, and what belongs to no chat is shown to guests as one.

import { texts } from "../../shell/page.js";
import { rooted } from "../history/rooted.js";
import { alike } from "../history/wire.js";
import { CUT_BY_SIGN_IN } from "../state/answer.js";
import { newConversation, titleOf } from "../state/conversation.js";
import { Database, GUESTS } from "../state/store.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Remote } from "../history/remote.js" */

/** @typedef {{ record: ConversationRecord | undefined, messages: Message[], files: FileRecord[] }} Left */

/** The channel over which tabs of guests say what they have changed (see `Chat`). */
const GUEST_TABS = "roxy ";

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
 * Do something with the database of guests itself. Returns undefined where the browser has none: then no other tab
 * can have written there.
 *
 * @template T
 * @param {(db: IDBDatabase) => Promise<T>} work
 * @returns {Promise<T | undefined>}
 */
async function withGuests(work) {
  await new Database(GUESTS).isPersistent(); // makes it, if there is none yet
  /** @type {IDBDatabase} */
  let db;
  try {
    db = await result(indexedDB.open(GUESTS));
  } catch {
    return undefined;
  }
  try {
    return await work(db);
  } finally {
    db.close();
  }
}

/** Return the ids of the conversations that messages of guests belong to, without reading the messages. */
async function conversationsOfMessages() {
  const found = await withGuests(
    (db) =>
      new Promise((resolve, reject) => {
        /** @type {string[]} */
        const ids = [];
        const index = db.transaction("messages").objectStore("messages").index("conversation");
        const request = index.openKeyCursor(null, "nextunique");
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          const cursor = request.result;
          if (!cursor) {
            resolve(ids);
            return;
          }
          ids.push(String(cursor.key));
          cursor.continue();
        };
      }),
  );
  return /** @type {string[]} */ (found ?? []);
}

/**
 * Erase what was moved from the database of guests, but not what another tab has written there since it was read.
 *
 * @param {Left} left
 */
export function eraseMoved({ record, messages, files }) {
  return withGuests(async (db) => {
    const transaction = db.transaction(["conversations", "messages", "files"], "readwrite");
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    /** @param {"conversations" | "messages"} name @param {{ id: string }} one */
    const eraseSame = (name, one) => {
      const store = transaction.objectStore(name);
      const reading = store.get(one.id);
      reading.onsuccess = () => {
        if (alike(reading.result, one)) store.delete(one.id);
      };
    };
    if (record) eraseSame("conversations", record);
    for (const message of messages) eraseSame("messages", message);
    for (const file of files) transaction.objectStore("files").delete(file.id);
    await done;
  });
}

/**
 * End an answer that was being written: the gateway keeps it for the guest who asked for it, and that was before the
 * sign-in.
 *
 * @param {Message} message
 * @returns {Message}
 */
export function endOpen(message) {
  if (message.role === "user" || message.state !== "open") return message;
  const error = { message: texts.history.cut_by_sign_in, code: CUT_BY_SIGN_IN, status: 0, retryAfter: null };
  return { ...message, state: "interrupted", error };
}

/** Sends what is left of moved chats after them. */
class Leftovers {
  #history;
  #guests = new Database(GUESTS);
  #tabs = new BroadcastChannel(GUEST_TABS);
  /** @type {Promise<void>} one at a time */
  #sending = Promise.resolve();

  /** @param {Remote} history */
  constructor(history) {
    this.#history = history;
    this.#tabs.onmessage = ({ data }) => {
      if (typeof data.id === "string" && history.name) this.send(data.id).catch(() => {}); // else at the next load
    };
  }

  /** @param {string} [only] a conversation in which a guest goes on; else all */
  send(only) {
    const sending = this.#sending.catch(() => {}).then(() => this.#send(only));
    this.#sending = sending;
    return sending;
  }

  /** @param {string} [only] */
  async #send(only) {
    const history = this.#history;
    await history.link.polled;
    const records = only ? [] : (await this.#guests.all("conversations")).map(({ id }) => id);
    const ids = only ? [only] : new Set([...records, ...(await conversationsOfMessages())]);
    for (const id of ids) if (history.view.stored.has(id)) await this.#sendOne(id, Boolean(only));
  }

  /**
   * @param {string} id
   * @param {boolean} isLive a tab is writing it: what is not finished is sent when it is
   */
  async #sendOne(id, isLive) {
    const guests = this.#guests;
    const [record, all, files] = await Promise.all([
      guests.find("conversations", id),
      guests.within("messages", id),
      guests.within("files", id),
    ]);
    const messages = all.filter((one) => !isLive || one.role === "user" || one.state !== "open");
    if (!record && !messages.length) return;
    const draft = record?.draft ?? null;
    if (await this.#history.sender.bring(id, { messages: messages.map(endOpen), files, draft })) {
      await eraseMoved({ record, messages, files });
    }
  }
}

/** @type {Leftovers | null} */
let leftovers = null;

/**
 * Send what is left in this browser of the chats that this person has on the server, and from now on what tabs of
 * guests still write in them.
 *
 * @param {Remote} history
 */
export async function sendLeft(history) {
  leftovers ??= new Leftovers(history);
  await leftovers.send().catch(() => {}); // nothing is lost: it is tried again with the next page
}

/**
 * Make chats of the messages of guests that belong to none: their chats were moved, and are not there any more.
 *
 * @param {Chat} chat
 */
export async function showLost(chat) {
  const guests = new Database(GUESTS);
  const ids = await conversationsOfMessages();
  if (!ids.length) return;
  const known = new Set((await guests.all("conversations")).map(({ id }) => id));
  let found = false;
  for (const id of ids.filter((one) => !known.has(one))) {
    const messages = (await guests.within("messages", id)).sort((a, b) => a.created - b.created);
    const words = messages.find(({ text }) => text)?.text;
    if (!words || (await guests.find("conversations", id))) continue;
    const record = { ...newConversation(""), id, title: titleOf(words), created: messages[0].created };
    await guests.putAll({ conversations: [record], messages: rooted(messages) });
    found = true;
  }
  if (found) chat.emit("records", null);
}
