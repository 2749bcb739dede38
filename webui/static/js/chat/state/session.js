// One conversation in this tab: its record, its tree of messages, its draft, and keeping them.

import { count, money, plural, short } from "../../shell/page.js";
import {
  change,
  erase,
  eraseMessages,
  find,
  newConversation,
  newId,
  put,
  putAll,
  Tree,
  waitingOf,
  within,
} from "./store.js";

const TITLE_LETTERS = 60;
const WARN_AT = 0.8;
const LETTERS_PER_TOKEN = 4;
/** Where a conversation without messages is kept while its draft is written. */
const NEW = "new";

/** Estimate how many tokens so many letters are. */
export const tokensOf = (letters) => Math.ceil(letters / LETTERS_PER_TOKEN);

/**
 * What was typed last in this tab. A page that follows another at once may read the database before
 * the last words of the other have come there; these are there at once.
 */
const LAST_WORDS = "roxy-words";
const RECENT_MS = 10_000;

function leaveWords(words) {
  try {
    if (words) sessionStorage.setItem(LAST_WORDS, JSON.stringify(words));
    else sessionStorage.removeItem(LAST_WORDS);
  } catch {
    // The browser keeps nothing, or not so much: the database has them in a moment.
  }
}

function leftWords() {
  try {
    const words = JSON.parse(sessionStorage.getItem(LAST_WORDS));
    return words && Date.now() - words.at < RECENT_MS ? words : null;
  } catch {
    return null;
  }
}

const withoutBlobs = (files) => files.map(({ blob, ...file }) => file);

export class Session {
  constructor(conversation, messages, waiting = []) {
    this.conversation = conversation;
    this.tree = new Tree(conversation, messages);
    this.waiting = waiting;
    this.asking = false;
  }

  /** Read a conversation; null when this browser does not have it. */
  static async read(id) {
    const conversation = await find("conversations", id);
    if (!conversation || conversation.deleted) return null;
    const waiting = await find("settings", waitingOf(id));
    const words = leftWords();
    if (words?.begun && words.id === id) conversation.draft = { files: [], ...conversation.draft, text: words.text };
    return new Session(conversation, await within("messages", id), waiting?.messages);
  }

  /** Begin a conversation, or go on with one that has a draft only. */
  static async fresh(model) {
    const kept = (await find("settings", NEW))?.value;
    const goesOn = kept && !(await find("conversations", kept.id));
    const conversation = goesOn ? kept : newConversation(model);
    const words = leftWords();
    if (words && !words.begun && !(await find("conversations", words.id))) {
      const files = kept?.id === words.id ? (kept.draft?.files ?? []) : [];
      Object.assign(conversation, { id: words.id, draft: { text: words.text, files } });
    }
    return new Session(conversation, []);
  }

  get id() {
    return this.conversation.id;
  }

  get begun() {
    return this.tree.messages.size > 0;
  }

  get path() {
    return this.tree.path();
  }

  /** Make a question below `parent` and show it. */
  addQuestion(text, files, parent) {
    const question = {
      id: newId("m_"),
      conversation: this.id,
      parent: parent?.id ?? null,
      role: "user",
      text,
      files: withoutBlobs(files),
      created: Date.now(),
    };
    if (!this.begun) this.conversation.title = titleOf(text || files[0]?.name || "");
    this.tree.add(question, true);
    return question;
  }

  /** Take messages out again, here and from what is kept; without any the conversation is gone. */
  async remove(...messages) {
    for (const message of messages) this.tree.remove(message);
    await eraseMessages(...messages.map((message) => message.id));
    if (this.begun) return;
    this.conversation.title = "";
    const { draft } = this.conversation;
    const files = await within("files", this.id);
    await erase(this.id);
    if (draft) await putAll({ settings: [{ id: NEW, value: this.conversation }], files });
  }

  /** Keep the conversation and some of its messages. */
  async save(...messages) {
    this.conversation.updated = Date.now();
    await putAll({ conversations: [this.conversation], messages });
  }

  /** Keep the conversation's own record, wherever it is. */
  async saveRecord() {
    if (this.begun) await put("conversations", this.conversation);
    else await put("settings", { id: NEW, value: this.conversation });
  }

  /** Keep what is typed. */
  async keepDraft(text, files) {
    this.conversation.draft = text || files.length ? { text, files: withoutBlobs(files) } : null;
    leaveWords({ id: this.id, begun: this.begun, text, at: Date.now() });
    await this.saveRecord();
  }

  /** The gateway has taken the message: its draft is done with. */
  async forgetDraft() {
    this.conversation.draft = null;
    leaveWords(null);
    await this.saveRecord();
    const kept = (await find("settings", NEW))?.value;
    if (kept?.id === this.id) await put("settings", { id: NEW, value: null });
  }

  /** Let a message wait for its turn: behind the others, or (one that was refused) `first`. */
  queue(text, files, first = false) {
    const message = { id: newId("w_"), text, files };
    return this._changeWaiting(({ messages }) => void (first ? messages.unshift(message) : messages.push(message)));
  }

  /** Take a message that waits; undefined when another tab has taken it. */
  unqueue({ id }) {
    return this._changeWaiting(({ messages }) => {
      const at = messages.findIndex((message) => message.id === id);
      return at < 0 ? undefined : messages.splice(at, 1)[0];
    });
  }

  /** Take the message whose turn it is after `answer`: of all tabs only the first gets it. */
  next(answer) {
    return this._changeWaiting((record) => {
      if (record.served === answer.id) return undefined;
      record.served = answer.id;
      return record.messages.shift();
    });
  }

  async _changeWaiting(edit) {
    const known = this.waiting;
    const made = () => ({ id: waitingOf(this.id), messages: [...known], served: null });
    const noted = (record) => {
      const given = edit(record);
      this.waiting = [...record.messages];
      return given;
    };
    try {
      return await change("settings", made(), noted);
    } catch {
      return noted(made()); // nothing is kept, so no other tab has it
    }
  }

  /** Keep files that were attached. */
  async keepFiles(files) {
    await put("files", ...files.map((file) => ({ ...file, conversation: this.id })));
  }

  /** Take in what another tab has written; messages in `live` are better known here. */
  async refresh(live) {
    const conversation = await find("conversations", this.id);
    if (!conversation) return;
    const waiting = await find("settings", waitingOf(this.id));
    const kept = await within("messages", this.id);
    // From here on nothing may be waited for: what is asked meanwhile would be lost.
    this.waiting = waiting?.messages ?? [];
    const here = this.tree.messages;
    const messages = kept.map((message) => {
      const known = here.get(message.id);
      return known && (live.has(message.id) || JSON.stringify(known) === JSON.stringify(message)) ? known : message;
    });
    // What this tab is just asking may not have been kept yet.
    const read = new Set(messages.map((message) => message.id));
    for (const id of live.keys()) {
      const line = here.has(id) ? this.tree.before(here.get(id)) : [];
      for (const message of line) if (!read.has(message.id)) messages.push(message);
      for (const message of line) read.add(message.id);
    }
    Object.assign(this.conversation, conversation, { draft: this.conversation.draft });
    this.tree = new Tree(this.conversation, messages);
  }

  /** Tell how many tokens of the context the shown messages take. */
  used() {
    const path = this.path;
    const last = path.findLastIndex((message) => message.stats && message.stats.prompt !== null);
    const told = last < 0 ? 0 : path[last].stats.prompt + (path[last].stats.completion ?? 0);
    return told + path.slice(last + 1).reduce((sum, message) => sum + tokensOf(message.text.length), 0);
  }

  /** Say what `typed` more tokens are to a model's context; null: there is nothing to say. */
  room(model, typed) {
    const part = (this.used() + typed) / model.context_window;
    if (part > 1)
      return { warn: true, text: `Longer than the context of ${model.name} (${short(model.context_window)} tokens).` };
    if (part > WARN_AT)
      return { warn: true, text: `The context of ${model.name} is ${Math.round(part * 100)} % full.` };
    return typed ? { text: `≈ ${plural(typed, "token")}` } : null;
  }

  /** Give what all answers have cost, in micro-dollars. */
  cost() {
    let sum = 0;
    for (const { stats } of this.tree.messages.values()) sum += stats?.cost ?? 0;
    return sum;
  }
}

/** Give files with their contents; those that are gone are left out. */
export async function storedFiles(files) {
  const found = await Promise.all((files ?? []).map((file) => find("files", file.id)));
  return found.filter(Boolean);
}

function titleOf(words) {
  const title = words.replace(/\s+/g, " ").trim();
  return title.length > TITLE_LETTERS ? `${title.slice(0, TITLE_LETTERS).trimEnd()}…` : title;
}

/** Say what is left to somebody; "" where nothing is limited. */
export function left({ remaining }) {
  const { requests, requests_day: day, budget } = remaining ?? {};
  const parts = [];
  if (requests) parts.push(`${count(requests.remaining)} of ${plural(requests.limit, "message")} left this minute`);
  if (day) parts.push(`${count(day.remaining)} of ${count(day.limit)} today`);
  if (budget)
    parts.push(
      `${money(Math.max(budget.limit_microusd - budget.spent_microusd, 0))} of ${money(budget.limit_microusd)} left`,
    );
  return parts.join(", ");
}

/** Say who asks and what is left to them. */
export function standing(visitor) {
  if (visitor.kind === "owner") return "Signed in as the owner, without limits.";
  const who = visitor.kind === "key" ? visitor.name : "Guest";
  const told = left(visitor);
  return told ? `${who}: ${told}.` : `${who}, without limits.`;
}
