// Signing out: nothing of the person stays in this browser. What would be lost is named first.

import { askInDialog } from "./dialog.js";
import { el, texts } from "./page.js";

const PREFIX = "roxy-";
/** What earlier releases left in the database of guests: marks of the people who had signed in. */
const GUESTS = { name: "roxy", store: "settings", id: "offered" };
/** A database that another tab does not close is deleted once that tab is gone. */
const DELETE_MS = 1000;

/**
 * What parts of the page do before the sign-out: `before` while the session is valid, `after` when it is decided.
 *
 * @typedef {{ before: Promise<unknown>[], after: (() => unknown)[] }} Leaving
 */

/**
 * @param {IDBDatabase} db
 * @param {string} store
 * @returns {Promise<any[]>}
 */
function all(db, store) {
  return new Promise((resolve) => {
    const asked = db.transaction(store).objectStore(store).getAll();
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => resolve([]);
  });
}

/**
 * Return a database; null: there is none.
 *
 * @param {string} name
 * @returns {Promise<IDBDatabase | null>}
 */
function opened(name) {
  return new Promise((resolve) => {
    const asked = indexedDB.open(name);
    asked.onupgradeneeded = () => asked.transaction?.abort(); // there was none
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => resolve(null);
  });
}

/** Delete the marks of people in the database of guests. */
async function eraseMarks() {
  const db = await opened(GUESTS.name);
  if (!db) return;
  const transaction = db.transaction(GUESTS.store, "readwrite");
  await new Promise((resolve) => {
    transaction.objectStore(GUESTS.store).delete(GUESTS.id);
    transaction.oncomplete = resolve;
    transaction.onabort = resolve;
  });
  db.close();
}

/**
 * Return what a database has that is nowhere else, in words.
 *
 * @param {string} name
 * @returns {Promise<string[]>}
 */
async function losses(name) {
  const db = await opened(name);
  if (!db) return [];
  const [conversations, settings] = await Promise.all([all(db, "conversations"), all(db, "settings")]);
  db.close();
  const found = [];
  if (conversations.some((one) => !one.deleted)) found.push(texts.page.chats_only_here);
  // With a history on the server, what it does not have yet is marked.
  const isOnServer = settings.some(({ id }) => id === "settings-unsent");
  if (settings.some(({ id, value, unsent }) => id.startsWith("prompt-") && value && (!isOnServer || unsent)))
    found.push(texts.page.prompts_only_here);
  const unsent = settings.some(
    ({ id, value }) =>
      id.startsWith("outbox:") && (Object.keys({ ...value.set, ...value.messages }).length || value.draft),
  );
  if (unsent) found.push(texts.page.changes_not_saved);
  if (settings.some(({ id, messages }) => id.startsWith("waiting:") && messages?.length))
    found.push(texts.page.queued_not_sent);
  const draft = settings.find(({ id }) => id === "new")?.value?.draft;
  if (draft?.text || draft?.files?.length) found.push(texts.page.draft_not_sent);
  return found;
}

/** @param {string[]} words what would be lost */
function mayDelete(words) {
  const about = [...words, texts.page.sign_out_deletes].map((text) => el("p", {}, text));
  const labels = { stay: texts.page.stay_signed_in, go: texts.page.sign_out_and_delete };
  return askInDialog(texts.page.sign_out_question, about, labels, { leavesPage: true });
}

/** @param {string} name */
function erase(name) {
  return new Promise((resolve) => {
    const asked = indexedDB.deleteDatabase(name);
    asked.onsuccess = resolve;
    asked.onerror = resolve;
    setTimeout(resolve, DELETE_MS);
  });
}

/**
 * Delete what this browser has of a person. Returns false when they stay signed in instead.
 *
 * @param {string} person
 */
export async function leave(person) {
  const name = PREFIX + person;
  /** @type {Leaving} */
  const leaving = { before: [], after: [] };
  document.dispatchEvent(new CustomEvent("roxy-sign-out", { detail: leaving }));
  await Promise.all(leaving.before);
  const words = await losses(name).catch(() => []);
  if (words.length && !(await mayDelete(words))) return false;
  for (const end of leaving.after) await end();
  const channel = new BroadcastChannel(`roxy-history-${person}`);
  channel.postMessage({ kind: "bye", tab: "" });
  await erase(name).catch(() => {}); // without a database there is nothing to delete
  await eraseMarks().catch(() => {});
  channel.close();
  try {
    sessionStorage.clear();
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key);
  } catch {
    // It is not available, so it holds nothing.
  }
  return true;
}
