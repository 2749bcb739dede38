// Sends unsent changes to the server, and settles what other devices have written meanwhile.

import { ApiError, callJson } from "../../shell/api.js";
import { texts } from "../../shell/page.js";
import { joinTexts, newId } from "../state/records.js";
import { inParts, pathOf } from "./upload.js";
import { copyOf } from "./view.js";
import { alike, packDraft, packMessage, unpackDraft, unpackMessage } from "./wire.js";

/** @import { Database } from "../state/store.js" */
/** @import { Draft, FileRecord, Message } from "../state/types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { Outbox, Unsent } from "./outbox.js" */
/** @import { Remote } from "./remote.js" */
/** @import { ServerFiles } from "./server_files.js" */
/** @import { Known } from "./view.js" */
/** @import { Sent } from "./wire.js" */

/**
 * True if changes are files alone.
 *
 * @param {Unsent} unsent
 */
const isFilesOnly = ({ set, draft, messages, remove, files, erase }) =>
  files.length > 0 && !draft && !erase && ![set, messages, remove].some((part) => Object.keys(part).length);

/**
 * True if changes have words that were not known where the conversation was erased: those that a person has
 * written, or an answer that only this device has.
 *
 * @param {Unsent} unsent
 */
const hasWords = ({ messages, bases, draft }) =>
  Boolean(draft?.value) ||
  Object.values(messages).some((one) => {
    if (one.role === "user" || one.edited) return true;
    return one.state === "done" && one.text && (bases[one.id] ?? null) === null;
  });

/** A file that did not fit into the history is tried again after this time. */
const HELD_MS = 60_000;
/** How long it is tried to send what was brought. */
const FLUSH_MS = 4000;

/** Sends the outbox of a Remote, one conversation at a time. */
export class Sender {
  /** The files that did not fit, and when they are tried again. @type {Map<string, number>} */
  #held = new Map();
  #remote;
  #view;
  #outbox;
  #database;
  #files;
  #connection;

  /**
   * @param {Remote} remote
   * @param {{ outbox: Outbox, database: Database, files: ServerFiles, connection: Connection }} parts
   */
  constructor(remote, { outbox, database, files, connection }) {
    this.#remote = remote;
    this.#view = remote.view;
    this.#outbox = outbox;
    this.#database = database;
    this.#files = files;
    this.#connection = connection;
  }

  /**
   * True while a conversation's changes should wait: the gateway may still refuse the question.
   *
   * @param {string} id
   */
  mayBeRefused(id) {
    const messages = Object.values(this.#outbox.of(id)?.messages ?? {});
    return messages.some((one) => one.role === "assistant" && one.state === "open" && !one.accepted);
  }

  /** True if a file did not fit into the history, so that only this browser has it. @param {string} file */
  isHeld(file) {
    return this.#held.has(file);
  }

  /** Try the files that did not fit again with the next change: there may be room now. */
  retryFiles() {
    for (const file of this.#held.keys()) this.#held.set(file, 0);
  }

  /**
   * Return how long a conversation's changes can wait because they are only files that did not fit.
   *
   * @param {string} id
   */
  waitOfFiles(id) {
    const unsent = this.#outbox.of(id);
    if (!unsent || !isFilesOnly(unsent)) return 0;
    return Math.max(Math.min(...unsent.files.map((file) => this.#held.get(file) ?? 0)) - Date.now(), 0);
  }

  /** True if there is nothing to send yet but files of a chat that is not started. @param {string} id */
  isUnstarted(id) {
    const unsent = this.#outbox.of(id);
    if (!unsent || unsent.erase || this.#view.stored.has(id)) return false;
    return !unsent.set.created && !Object.keys(unsent.messages).length;
  }

  /**
   * Send a conversation's changes. Raises ApiError, and nothing is lost. Files that do not fit stay unsent;
   * returns the error of the last one.
   *
   * @param {string} id
   */
  async send(id) {
    const unsent = this.#outbox.take(id);
    if (!unsent) return null;
    try {
      const full = unsent.erase ? await this.#sendErasure(id, unsent) : await this.#sendChanges(id, unsent);
      await this.#outbox.sent(id);
      if (this.#remote.gone.has(id) && !this.#outbox.of(id)) await this.#remote.wasErased(id);
      return full;
    } catch (error) {
      if (error instanceof ApiError && error.code === "conversation_erased") {
        await this.#revive(id, unsent);
        return null;
      }
      this.#outbox.restore(id);
      throw error;
    }
  }

  /**
   * @param {string} id
   * @param {Unsent} unsent
   */
  async #sendErasure(id, { version }) {
    try {
      const query = version === null ? "" : `?version=${version}`;
      await callJson(`${pathOf(id)}${query}`, this.#connection.options({ method: "DELETE" }));
    } catch (error) {
      if (error instanceof ApiError && error.code === "conversation_changed") await this.#remote.wasKept(id);
      else if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
    return null;
  }

  /**
   * @param {string} id
   * @param {Unsent} unsent
   */
  async #sendChanges(id, unsent) {
    const { left, full } = await this.#sendFiles(id, unsent.files);
    if (left.length === unsent.files.length && isFilesOnly(unsent)) {
      await this.#outbox.add(id, { files: left });
      return full;
    }
    const bodies = inParts(unsent);
    for (const body of bodies) {
      const options = this.#connection.options({ method: "POST", body: JSON.stringify(body) });
      const saved = await callJson(pathOf(id), options);
      await this.#takeSaved(id, saved, unsent);
    }
    const sent = unsent.files.filter((file) => !left.includes(file));
    if (sent.length) await this.#database.remove("files", sent);
    if (left.length) await this.#outbox.add(id, { files: left });
    return full;
  }

  /**
   * Send files. Returns those that do not fit into the history, and the error of the last one: the text of
   * their message does not wait for them.
   *
   * @param {string} id
   * @param {string[]} files
   */
  async #sendFiles(id, files) {
    /** @type {string[]} */
    const left = [];
    /** @type {ApiError | null} */
    let full = null;
    for (const file of files) {
      if ((this.#held.get(file) ?? 0) > Date.now()) {
        left.push(file);
        continue;
      }
      try {
        await this.#files.send(file, id);
        if (this.#held.delete(file)) this.#remote.listener?.held();
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "history_full") throw error;
        this.#held.set(file, Date.now() + HELD_MS);
        this.#remote.listener?.held();
        left.push(file);
        full = error;
      }
    }
    return { left, full };
  }

  /**
   * Take over what the server says of a change: versions, and what other devices have written meanwhile.
   *
   * @param {string} id
   * @param {Sent} saved
   * @param {Unsent} sent
   */
  async #takeSaved(id, saved, sent) {
    this.#remote.latest.set(id, Math.max(saved.cursor, this.#remote.latest.get(id) ?? 0));
    // Without a write of others in between there is nothing to read.
    if (saved.written && saved.cursor === this.#remote.cursor + 1) this.#remote.cursor = saved.cursor;
    this.#takeVersions(id, saved, sent);
    const later = this.#outbox.waitingOf(id);
    const known = this.#view.known.get(id);
    const version = saved.conversation.draft_version ?? 0;
    this.#outbox.rebaseDraft(id, version);
    let changed = this.#view.takeMessages(id, saved.newer ?? [], saved.removed ?? [], later);
    for (const stored of saved.conflicts) {
      if (known) await this.#branch(known, stored, sent);
      else await this.#branchUnread(id, stored, sent);
      changed = true;
    }
    if (saved.draft_conflict) {
      const stored = /** @type {Draft} */ (unpackDraft(saved.draft_conflict));
      await this.#outbox.joinDraft(id, stored, sent.draft, version);
      this.#connection.sendSoon();
    }
    await this.#takeTexts(id, saved.set_conflicts ?? {}, sent);
    if (sent.set.deleted && saved.conversation.deleted === null && !later?.erase && later?.set.deleted === undefined)
      this.#remote.wasBack(saved.conversation);
    if (known) changed = this.#view.takeRecord(saved.conversation, this.#outbox.waitingOf(id)) || changed;
    else this.#view.takeLine(saved.conversation, later);
    if (changed) this.#remote.listener?.changed([id]);
    this.#remote.listener?.list();
  }

  /**
   * Settle texts that another device has changed as well: the system prompt of this one goes below the other, and its
   * title is offered again.
   *
   * @param {string} id
   * @param {{ title?: string, system?: string }} stored
   * @param {Unsent} sent
   */
  async #takeTexts(id, { title, system }, sent) {
    const later = this.#outbox.waitingOf(id)?.set ?? {};
    if (system !== undefined) {
      const joined = joinTexts(system, later.system ?? sent.set.system, sent.was.system);
      await this.#outbox.setFrom(id, "system", joined, system);
      this.#remote.listener?.problem(texts.history.system_joined);
      this.#connection.sendSoon();
    }
    if (title !== undefined && later.title === undefined) this.#remote.listener?.renamed(id, sent.set.title, title);
  }

  /**
   * @param {string} id
   * @param {Sent} saved
   * @param {Unsent} sent
   */
  #takeVersions(id, { conversation, versions, conflicts, newer }, sent) {
    const refused = new Map([...conflicts, ...newer].map((one) => [one.id, one.text]));
    for (const [message, version] of Object.entries(versions)) {
      const mine = sent.messages[message];
      const from = sent.bases[message] ?? null;
      this.#view.versions.set(message, version);
      if (!mine || (refused.has(message) && refused.get(message) !== mine.text)) continue;
      this.#view.wrote(message, from, version);
      this.#outbox.rebaseMessage(id, message, from, version);
    }
    this.#view.wroteIn(id, conversation.version);
    this.#outbox.rebaseErasure(id, conversation.version);
  }

  /**
   * Keep both texts of a message that was changed on two devices: this device's becomes a branch.
   *
   * @param {Known} known
   * @param {Sent} stored
   * @param {Unsent} sent
   */
  async #branch(known, stored, sent) {
    const { id } = known.record;
    const theirs = unpackMessage(stored, id);
    const mine = known.messages.get(theirs.id) ?? sent.messages[theirs.id];
    this.#view.versions.set(theirs.id, stored.version ?? 0);
    this.#view.setMessage(known, theirs);
    this.#outbox.forgetMessage(id, theirs.id);
    if (!isBranch(mine, theirs, [...known.messages.values()])) return;
    /** @type {Message} */
    const branch = { ...mine, id: newId("m_") };
    this.#view.setMessage(known, branch);
    const choices = { [branch.parent ?? "root"]: branch.id };
    known.record.choices = { ...known.record.choices, ...choices };
    await this.#outbox.add(id, { messages: { [branch.id]: branch }, set: { choices } });
    this.#connection.sendSoon();
  }

  /**
   * Keep both texts of a message in a conversation that this page has not read.
   *
   * @param {string} id
   * @param {Sent} stored
   * @param {Unsent} sent
   */
  async #branchUnread(id, stored, sent) {
    const theirs = unpackMessage(stored, id);
    const mine = sent.messages[theirs.id];
    this.#view.versions.set(theirs.id, stored.version ?? 0);
    this.#outbox.forgetMessage(id, theirs.id);
    if (!isBranch(mine, theirs, [])) return;
    /** @type {Message} */
    const branch = { ...mine, id: newId("m_") };
    const set = { choices: { [branch.parent ?? "root"]: branch.id } };
    await this.#outbox.add(id, { messages: { [branch.id]: branch }, set });
    this.#connection.sendSoon();
  }

  /**
   * Add to a conversation on the server what was written without its versions; where the server has other words, a
   * branch keeps these. Returns true once the server has them.
   *
   * @param {string} id
   * @param {{ messages: Message[], files: FileRecord[], draft: Draft | null }} written
   */
  async bring(id, { messages, files, draft }) {
    if (this.#outbox.of(id)) await this.#connection.flush(FLUSH_MS);
    await this.#remote.find("conversations", id);
    const known = this.#view.known.get(id);
    if (!known || this.#outbox.of(id)) return false;
    const isNew = (/** @type {Message} */ one) => {
      const before = known.messages.get(one.id);
      return !before || !alike(packMessage(before), packMessage(one));
    };
    const others = messages.filter(isNew);
    for (const one of others) this.#view.setMessage(known, one);
    if (files.length) await this.#remote.putAll({ files });
    await this.#outbox.add(id, {
      messages: Object.fromEntries(others.map((one) => [one.id, one])),
      draft: draft && !alike(packDraft(draft), packDraft(known.record.draft)) ? { value: draft, base: 0 } : null,
    });
    this.#remote.listener?.changed([id]);
    await this.#connection.flush(FLUSH_MS);
    return !this.#outbox.of(id);
  }

  /**
   * Keep what was written in a conversation that another device has erased: in a new one.
   *
   * @param {string} id
   * @param {Unsent} unsent
   */
  async #revive(id, unsent) {
    const whole = this.#outbox.of(id) ?? unsent; // with what was written while it was sent
    const known = this.#view.known.get(id) ?? this.#view.takeUnsent(id, whole);
    const files = await Promise.all(whole.files.map((file) => this.#database.find("files", file)));
    await this.#outbox.drop(id);
    await this.#remote.wasErased(id);
    if (!hasWords(whole)) return;
    const { record, messages } = copyOf(known);
    await this.#remote.putAll({
      conversations: [record],
      messages,
      files: files.flatMap((file) => (file ? { ...file, conversation: record.id } : [])),
    });
    this.#remote.listener?.problem(texts.history.deleted_elsewhere);
    this.#remote.listener?.list();
  }
}

/**
 * True if a text of this device that the server did not take is to be kept beside the stored one: not when another
 * branch has it, and not when it is only the answer as it came, which somebody has edited.
 *
 * @param {Message | undefined} mine
 * @param {Message} theirs
 * @param {Message[]} all
 * @returns {mine is Message}
 */
function isBranch(mine, theirs, all) {
  if (!mine?.text || mine.text === theirs.text) return false;
  if (mine.role === "assistant" && theirs.role === "assistant" && theirs.edited && !mine.edited) {
    if (mine.state === theirs.state && mine.seq <= theirs.seq) return false;
  }
  return !all.some((one) => one.id !== mine.id && one.parent === mine.parent && one.text === mine.text);
}
