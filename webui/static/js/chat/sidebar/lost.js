// Messages of guests that belong to no chat any more: a tab wrote them after its chat was moved to the server. They
// are shown to guests as chats again.

import { newConversation, titleOf } from "../state/records.js";
import { Database, GUESTS } from "../state/store.js";

/** @import { Chat } from "../state/chat.js" */

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
export async function withGuests(work) {
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
export async function conversationsOfMessages() {
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
    const { rooted } = await chat.load(() => import("../history/rooted.js"));
    await guests.putAll({ conversations: [record], messages: rooted(messages) });
    found = true;
  }
  if (found) chat.emit("records", null);
}
