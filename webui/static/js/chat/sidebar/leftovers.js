// What tabs of guests go on writing in this browser after their chats were moved to the server: it is sent
// after them without a question.

import { texts } from "../../shell/page.js";
import { alike } from "../history/wire.js";
import { CUT_BY_SIGN_IN } from "../state/answer.js";
import { Database, GUESTS } from "../state/store.js";
import { conversationsOfMessages, withGuests } from "./lost.js";

/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Remote } from "../history/remote.js" */

/** @typedef {{ record: ConversationRecord | undefined, messages: Message[], files: FileRecord[] }} Left */

/** The channel over which tabs of guests say what they have changed (see `Chat`). */
const GUEST_TABS = "roxy ";

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
    await history.connection.polled;
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
