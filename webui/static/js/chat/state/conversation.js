// One conversation in this tab: its record, its tree of messages, its draft and its queue.

import { joinDrafts, NO_DRAFT, newConversation, newId, titleOf } from "./records.js";
import {
  changeSetting,
  eraseMessages,
  find,
  GUESTS,
  placeName,
  put,
  putAll,
  queueId,
  takeBack,
  within,
} from "./store.js";

/**
 * @import {
 *   Draft,
 *   ConversationRecord, FileRecord, Message, Question, QueueRecord, QueuedMessage,
 * } from "./types.js"
 */

export const ROOT = "root";
/** The setting that holds a conversation without messages while its draft is written. */
const NEW = "new";

/** The messages of one conversation as a tree. */
export class Tree {
  /**
   * @param {ConversationRecord} record
   * @param {Message[]} messages
   * @param {Map<string, string | undefined>} [earlier] which sibling was shown before a message, by its id
   */
  constructor(record, messages, earlier = new Map()) {
    this.record = record;
    /** @type {Map<string, Message>} */
    this.messages = new Map();
    /** @type {Map<string, string[]>} */
    this.children = new Map([[ROOT, []]]);
    this.earlier = earlier;
    for (const message of messages.sort((a, b) => a.created - b.created)) this.add(message);
  }

  /**
   * Add a message; a `chosen` one is shown in place of its siblings.
   *
   * @param {Message} message
   * @param {boolean} [chosen]
   */
  add(message, chosen = false) {
    this.messages.set(message.id, message);
    const parent = message.parent ?? ROOT;
    const siblings = this.children.get(parent) ?? [];
    this.children.set(parent, [...siblings, message.id]);
    if (!chosen) return;
    this.earlier.set(message.id, this.record.choices[parent]);
    this.record.choices[parent] = message.id;
  }

  /**
   * Remove a message without children; the sibling shown before it is shown again.
   *
   * @param {Message} message
   */
  remove(message) {
    const parent = message.parent ?? ROOT;
    this.messages.delete(message.id);
    const siblings = this.children.get(parent) ?? [];
    this.children.set(
      parent,
      siblings.filter((id) => id !== message.id),
    );
    if (this.record.choices[parent] !== message.id) return;
    const earlier = this.earlier.get(message.id);
    if (earlier && this.messages.has(earlier)) this.record.choices[parent] = earlier;
    else delete this.record.choices[parent];
  }

  /**
   * Return a message with its siblings, oldest first.
   *
   * @param {Message} message
   */
  siblings(message) {
    return (this.children.get(message.parent ?? ROOT) ?? []).flatMap((id) => this.messages.get(id) ?? []);
  }

  /**
   * Show a message in place of its siblings.
   *
   * @param {Message} message
   */
  choose(message) {
    this.record.choices[message.parent ?? ROOT] = message.id;
  }

  /** Return the messages that are shown, from the first to the last. */
  path() {
    /** @type {Message[]} */
    const shown = [];
    for (let message = this.below(ROOT); message; message = this.below(message.id)) shown.push(message);
    return shown;
  }

  /**
   * Return the message that is shown below another one.
   *
   * @param {string} at the id of that one, or ROOT
   */
  below(at) {
    const ids = this.children.get(at) ?? [];
    const chosen = this.record.choices[at];
    return this.messages.get((chosen && ids.includes(chosen) ? chosen : ids.at(-1)) ?? "");
  }

  /**
   * Return the messages from the first down to this one.
   *
   * @param {Message} message
   */
  before(message) {
    /** @type {Message[]} */
    const line = [];
    /** @type {Message | undefined} */
    let at = message;
    while (at) {
      line.unshift(at);
      at = this.messages.get(at.parent ?? "");
    }
    return line;
  }
}

/** A conversation that is open in this tab, or has an answer under way. */
export class Conversation {
  /** The record as it was last read or saved here. @type {ConversationRecord | null} */
  #seen;
  /** What is in the box, while the draft has words of others besides; null: the draft. @type {Draft | null} */
  #boxed = null;

  /**
   * @param {ConversationRecord} record
   * @param {Message[]} messages
   * @param {QueuedMessage[]} [queue]
   */
  constructor(record, messages, queue = []) {
    this.record = record;
    this.#seen = structuredClone(record);
    this.tree = new Tree(record, messages);
    /** Messages that wait for the end of the answer under way. */
    this.queue = queue;
    /** True from the sending of a message until the gateway has accepted or refused it. */
    this.asking = false;
  }

  /**
   * Read a conversation; null when this browser does not have it.
   *
   * @param {string} id
   */
  static async read(id) {
    const record = await find("conversations", id);
    if (!record || record.deleted) return null;
    const queue = await find("settings", queueId(id));
    const conversation = new Conversation(record, await within("messages", id), queue?.messages);
    const typed = recentlyTyped();
    const isNewer = typed?.started && typed.id === id && !(typed.text && record.draft?.text.includes(typed.text));
    if (isNewer) record.draft = { files: [], ...record.draft, text: typed.text };
    return conversation;
  }

  /**
   * Start a temporary conversation.
   *
   * @param {string} model
   */
  static temporary(model) {
    return new Conversation({ ...newConversation(model), temporary: true }, []);
  }

  /**
   * Start a conversation, or continue one that has a draft only.
   *
   * @param {string} model
   * @param {string} [instead] of which conversation: it gets the words that were typed there
   */
  static async fresh(model, instead) {
    /** @type {ConversationRecord | undefined} */
    const kept = (await find("settings", NEW))?.value;
    const record = kept && !(await find("conversations", kept.id)) ? kept : newConversation(model);
    const typed = recentlyTyped(instead ? Number.POSITIVE_INFINITY : RECENT_MS);
    if (typed?.text && typed.id === instead)
      record.draft = joinDrafts(record.draft, { text: typed.text, files: [] }, null);
    if (typed && !typed.started && !(await find("conversations", typed.id))) {
      const files = kept?.id === typed.id ? (kept.draft?.files ?? []) : [];
      Object.assign(record, { id: typed.id, draft: { text: typed.text, files } });
    }
    const before = record.draft ? "" : textBeforeSignIn();
    if (before) record.draft = { text: before, files: [] };
    return new Conversation(record, []);
  }

  get id() {
    return this.record.id;
  }

  /** True once it has a message. */
  get started() {
    return this.tree.messages.size > 0;
  }

  /** The messages that are shown. */
  get path() {
    return this.tree.path();
  }

  /**
   * Add a question below `parent` and show it.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   * @param {Message | undefined} parent
   * @returns {Question}
   */
  addQuestion(text, files, parent) {
    /** @type {Question} */
    const question = {
      id: newId("m_"),
      conversation: this.id,
      parent: parent?.id ?? null,
      role: "user",
      text,
      files: withoutBlobs(files),
      created: Date.now(),
    };
    if (!this.started) this.record.title = titleOf(text || files[0]?.name || "");
    this.tree.add(question, true);
    return question;
  }

  /**
   * Remove a message here and from the database; a conversation without messages is deleted.
   *
   * @param {Message} message
   */
  async remove(message) {
    this.tree.remove(message);
    await eraseMessages(message.id);
    if (this.started) {
      await this.saveRecord(); // another sibling is shown now
      return;
    }
    this.record.title = "";
    const { draft } = this.record;
    const files = await within("files", this.id);
    await takeBack(this.id);
    this.#seen = null;
    if (draft) await putAll({ settings: [{ id: NEW, value: this.record }], files });
  }

  /**
   * Save the record and some of the messages.
   *
   * @param {...Message} messages
   */
  async save(...messages) {
    this.record.updated = Date.now();
    await this.#put(messages);
  }

  /** Save the record alone. */
  async saveRecord() {
    if (this.started) await this.#put();
    else await put("settings", { id: NEW, value: this.record });
  }

  /** @param {Message[]} [messages] */
  async #put(messages) {
    const seen = this.#seen;
    this.#seen = structuredClone(this.record);
    try {
      await putAll({ conversations: [this.record], ...(messages && { messages }), seen: seen ? [seen] : [] });
    } catch (error) {
      this.#seen = seen;
      throw error;
    }
  }

  /** What is in the box: the draft, or what this tab has of it. */
  get boxed() {
    return this.#boxed ?? this.record.draft;
  }

  /**
   * Save what is typed, beside what others have added to the draft.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   */
  async saveDraft(text, files) {
    this.#setBoxed({ text, files: withoutBlobs(files) });
    if (!this.record.temporary) rememberTyped({ id: this.id, started: this.started, text, at: Date.now() });
    await this.saveRecord();
  }

  /** @param {Draft} boxed */
  #setBoxed(boxed) {
    const draft = joinDrafts(this.record.draft, boxed, this.boxed);
    this.record.draft = draft;
    this.#boxed = JSON.stringify(draft ?? NO_DRAFT) === JSON.stringify(boxed) ? null : boxed;
  }

  /**
   * Take over the draft as another tab or device has stored it. The box shows it later.
   *
   * @param {Draft | null} draft
   */
  takeDraft(draft) {
    this.#boxed = this.boxed ?? NO_DRAFT;
    this.record.draft = draft;
    if (this.#seen) this.#seen.draft = structuredClone(draft);
  }

  /** Note that the box shows the draft. */
  showsDraft() {
    this.#boxed = null;
  }

  /** Delete the draft: the gateway has accepted its message. */
  async clearDraft() {
    this.#setBoxed(NO_DRAFT);
    rememberTyped(null);
    await this.saveRecord();
    const kept = (await find("settings", NEW))?.value;
    if (kept?.id === this.id) await put("settings", { id: NEW, value: null });
  }

  /**
   * Queue a message: behind the others, or `first`.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   * @param {boolean} [first]
   */
  async enqueue(text, files, first = false) {
    const message = { id: newId("w_"), text, files };
    await this.#changeQueue(({ messages }) => void (first ? messages.unshift(message) : messages.push(message)));
  }

  /**
   * Take a queued message; undefined when another tab has taken it.
   *
   * @param {QueuedMessage} message
   */
  dequeue({ id }) {
    return this.#changeQueue(({ messages }) => {
      const at = messages.findIndex((message) => message.id === id);
      return at < 0 ? undefined : messages.splice(at, 1)[0];
    });
  }

  /**
   * Take the message whose turn it is after an answer; of all tabs only the first gets it.
   *
   * @param {Message} answer
   */
  takeNext(answer) {
    return this.#changeQueue((record) => {
      if (record.served === answer.id) return undefined;
      record.served = answer.id;
      return record.messages.shift();
    });
  }

  /**
   * @template T
   * @param {(record: QueueRecord) => T} edit
   */
  async #changeQueue(edit) {
    const known = this.queue;
    /** @returns {QueueRecord} */
    const initial = () => ({ id: queueId(this.id), messages: [...known], served: null });
    /** @param {QueueRecord} record */
    const edited = (record) => {
      const returned = edit(record);
      this.queue = [...record.messages];
      return returned;
    };
    try {
      return await changeSetting(initial(), edited);
    } catch {
      return edited(initial()); // nothing can be saved, so no other tab has it
    }
  }

  /**
   * Save files that were attached.
   *
   * @param {FileRecord[]} files
   */
  async saveFiles(files) {
    await put("files", ...files.map((file) => ({ ...file, conversation: this.id })));
  }

  /**
   * Take over the record as another tab or device has stored it; the draft of this tab stays.
   *
   * @param {ConversationRecord} stored
   */
  takeRecord(stored) {
    const { draft } = this.record;
    this.#seen = structuredClone({ ...stored, draft: this.#seen?.draft ?? null });
    Object.assign(this.record, stored, { draft });
  }

  /** Return the cost of all answers, in micro-dollars. */
  cost() {
    let sum = 0;
    for (const message of this.tree.messages.values()) {
      if (message.role === "assistant") sum += message.stats?.cost ?? 0;
    }
    return sum;
  }
}

/**
 * Return files with their contents; those that are gone are left out.
 *
 * @param {FileRecord[] | undefined} files
 */
export async function storedFiles(files = []) {
  const found = await Promise.all(files.map((file) => find("files", file.id)));
  return found.flatMap((file) => file ?? []);
}

/** @type {(files: FileRecord[]) => FileRecord[]} */
const withoutBlobs = (files) => files.map(({ blob, ...file }) => file);

/**
 * What was typed last in this tab. A page that follows another at once may read the database before the
 * other page's last draft has been committed; the session storage has it already.
 */
const LAST_TYPED = "roxy-words";
/**
 * Of one person: another one may sign in within the same tab.
 *
 * @param {string} [place]
 */
const lastTyped = (place = placeName()) => `${LAST_TYPED} ${place}`;
const RECENT_MS = 10_000;

/** @typedef {{ id: string, started: boolean, text: string, at: number }} Typed */

/** @param {Typed | null} typed */
function rememberTyped(typed) {
  if (!placeName()) return; // signed out: nothing stays behind
  try {
    if (typed) sessionStorage.setItem(lastTyped(), JSON.stringify(typed));
    else sessionStorage.removeItem(lastTyped());
  } catch {
    // No session storage, or no room in it: the database has the draft in a moment.
  }
}

/**
 * @param {number} [ms] how long ago at most
 * @returns {Typed | null}
 */
function recentlyTyped(ms = RECENT_MS) {
  try {
    const typed = JSON.parse(sessionStorage.getItem(lastTyped()) ?? "null");
    return typed && Date.now() - typed.at < ms ? typed : null;
  } catch {
    return null;
  }
}

/** Take the text of a new chat that was typed in this tab before signing in; it is handed over once. */
function textBeforeSignIn() {
  if (placeName() === GUESTS) return "";
  try {
    /** @type {Typed | null} */
    const typed = JSON.parse(sessionStorage.getItem(lastTyped(GUESTS)) ?? "null");
    sessionStorage.removeItem(lastTyped(GUESTS));
    return typed && !typed.started ? typed.text : "";
  } catch {
    return "";
  }
}
