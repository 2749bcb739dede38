// What this tab knows of the conversations on the server, with the unsent changes in it.

import { newId } from "../state/records.js";
import { rooted } from "./rooted.js";
import { alike, packMessage, unpackConversation, unpackMessage, withChanges } from "./wire.js";

/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Unsent } from "./outbox.js" */
/** @import { Sent } from "./wire.js" */

/**
 * A conversation that was read. `stale`: another device has changed it since.
 *
 * @typedef {{ record: ConversationRecord, messages: Map<string, Message>, stale: boolean }} Known
 */

/** Conversations by id: all of them as the list shows them, those that were opened as a whole. */
export class View {
  /** @type {Map<string, ConversationRecord>} */
  list = new Map();
  /** @type {Map<string, Known>} */
  known = new Map();
  /** Ids of the conversations that the server has. */
  stored = new Set();
  /** @type {Map<string, number>} the server's versions of messages */
  versions = new Map();
  /** @type {Map<string, number>} those that the page shows: what a change is made from */
  shown = new Map();
  /** @type {Map<string, number>} those at which messages were removed here, which Undo may bring back */
  removed = new Map();
  /** @type {Map<string, number>} the server's versions of conversations */
  seen = new Map();
  /** @type {Map<string, number>} those at which conversations were deleted here */
  deleted = new Map();
  /** @type {Map<string, number>} the server's versions of drafts, by conversation */
  drafts = new Map();
  /** @type {Map<string, FileRecord>} files without their contents */
  files = new Map();

  /**
   * Take over a line of the server's list. Returns true if it is new or has changed.
   *
   * @param {Sent} summary
   * @param {Unsent | undefined} unsent
   */
  takeSummary(summary, unsent) {
    const { id } = summary;
    this.stored.add(id);
    const before = this.list.get(id);
    const { version, ...line } = summary;
    this.seen.set(id, version);
    /** @type {ConversationRecord} */
    const record = { ...emptyRecord(id), ...before, ...line };
    const now = unsent ? withChanges(record, unsent.set) : record;
    this.list.set(id, now);
    return !before || !alike(before, now);
  }

  /**
   * Take over a conversation of the server. Returns true if it has changed.
   *
   * @param {Sent} sent
   * @param {Unsent | undefined} unsent
   */
  takeRecord(sent, unsent) {
    const { id } = sent;
    this.stored.add(id);
    this.drafts.set(id, sent.draft_version ?? 0);
    let record = unpackConversation(sent);
    if (unsent) {
      record = withChanges(record, unsent.set);
      if (unsent.draft) record.draft = unsent.draft.value;
    }
    const known = this.known.get(id);
    const changed = !known || !alike(known.record, record);
    if (known) known.record = record;
    else this.known.set(id, { record, messages: new Map(), stale: false });
    this.#noteFiles(record.draft?.files);
    this.#line(record);
    return changed;
  }

  /**
   * Take over what the list shows of a conversation.
   *
   * @param {Sent} sent
   * @param {Unsent | undefined} unsent
   */
  takeLine(sent, unsent) {
    const record = unpackConversation(sent);
    this.stored.add(record.id);
    this.#line(unsent ? withChanges(record, unsent.set) : record);
  }

  /**
   * Show unsent changes of a conversation in the list.
   *
   * @param {string} id
   * @param {Unsent} unsent
   */
  changeLine(id, unsent) {
    const line = this.list.get(id);
    if (line) this.list.set(id, withChanges(line, unsent.set));
  }

  /**
   * Take over messages of the server. Returns true if any has changed.
   *
   * @param {string} id of the conversation
   * @param {Sent[]} messages
   * @param {string[]} removed
   * @param {Unsent | undefined} unsent
   */
  takeMessages(id, messages, removed, unsent) {
    const known = this.known.get(id);
    if (!known) return false;
    let changed = false;
    for (const sent of messages) {
      this.versions.set(sent.id, sent.version ?? 0);
      if (unsent?.messages[sent.id] || unsent?.remove[sent.id]?.base === sent.version) continue;
      const message = unpackMessage(sent, id);
      const before = known.messages.get(message.id);
      if (before && alike(packMessage(before), packMessage(message))) continue;
      this.setMessage(known, message);
      changed = true;
    }
    for (const gone of removed) {
      if (unsent?.messages[gone]) continue;
      changed = known.messages.delete(gone) || changed;
    }
    return changed;
  }

  /**
   * @param {Known} known
   * @param {Message} message
   */
  setMessage(known, message) {
    known.messages.set(message.id, message);
    if (message.role === "user") this.#noteFiles(message.files);
  }

  /**
   * Take over a whole conversation.
   *
   * @param {{ conversation: Sent, messages: Sent[] }} whole
   * @param {Unsent | undefined} unsent
   */
  takeWhole({ conversation, messages }, unsent) {
    this.takeRecord(conversation, unsent);
    this.seen.set(conversation.id, conversation.version);
    const known = /** @type {Known} */ (this.known.get(conversation.id));
    const before = known.messages;
    known.messages = new Map();
    for (const [id, message] of before) if (unsent?.messages[id]) known.messages.set(id, message);
    this.takeMessages(conversation.id, messages, [], unsent);
    if (unsent) this.addUnsent(known, unsent);
    known.stale = false;
    return known;
  }

  /**
   * Begin a conversation that the server does not have.
   *
   * @param {string} id
   * @param {Unsent} unsent
   */
  takeUnsent(id, unsent) {
    const record = withChanges({ ...emptyRecord(id), ...this.list.get(id) }, unsent.set);
    if (unsent.draft) record.draft = unsent.draft.value;
    /** @type {Known} */
    const known = { record, messages: new Map(), stale: false };
    this.known.set(id, known);
    this.addUnsent(known, unsent);
    this.#line(record);
    return known;
  }

  /**
   * @param {Known} known
   * @param {Unsent} unsent
   */
  addUnsent(known, unsent) {
    for (const message of Object.values(unsent.messages)) this.setMessage(known, message);
    for (const id of Object.keys(unsent.remove)) known.messages.delete(id);
    this.#noteFiles(unsent.draft?.value?.files);
  }

  /**
   * Save the record of a conversation as the page has it.
   *
   * @param {ConversationRecord} record
   */
  setRecord(record) {
    const known = this.known.get(record.id);
    if (known) known.record = record;
    else this.known.set(record.id, { record, messages: new Map(), stale: false });
    this.#noteFiles(record.draft?.files);
    this.#line(record);
  }

  /**
   * Return a conversation's messages for the page to show.
   *
   * @param {Known} known
   */
  show(known) {
    for (const id of known.messages.keys()) {
      const version = this.versions.get(id);
      if (version !== undefined) this.shown.set(id, version);
    }
    return rooted([...known.messages.values()]);
  }

  /**
   * Note that a change of this tab has made a version of a message: the page shows it.
   *
   * @param {string} id
   * @param {number | null} from
   * @param {number} to
   */
  wrote(id, from, to) {
    if ((this.shown.get(id) ?? null) === from) this.shown.set(id, to);
    this.removed.delete(id);
  }

  /**
   * Note the version of a conversation after a change of this tab, if no other device has changed it in between.
   *
   * @param {string} id
   * @param {number} version
   */
  wroteIn(id, version) {
    if (version - 1 === (this.seen.get(id) ?? 0)) this.seen.set(id, version);
    if (version - 1 === this.deleted.get(id)) this.deleted.set(id, version);
  }

  /**
   * Note that the person deletes a conversation, as it is now, or brings it back.
   *
   * @param {string} id
   * @param {boolean} deleted
   */
  noteDeleted(id, deleted) {
    if (!deleted) this.deleted.delete(id);
    else if (!this.deleted.has(id)) this.deleted.set(id, this.seen.get(id) ?? 0);
  }

  /**
   * True if a conversation that was deleted here is not deleted any more, since another device has gone on with it.
   *
   * @param {Sent} sent as the server has it
   */
  isBack({ id, version, deleted }) {
    const at = this.deleted.get(id);
    return at !== undefined && deleted === null && version > at;
  }

  /**
   * Forget the version of a message that is removed: saved again, it is a new one. Returns what it was removed from,
   * null if the server did not have it.
   *
   * @param {string} id
   */
  takeVersion(id) {
    const base = this.shown.get(id) ?? this.removed.get(id) ?? null;
    this.versions.delete(id);
    this.shown.delete(id);
    if (base !== null) this.removed.set(id, base);
    return base;
  }

  /** @param {ConversationRecord} record */
  #line(record) {
    const { draft, ...line } = record;
    const answering = this.list.get(record.id)?.answering ?? false;
    this.list.set(record.id, { ...line, answering, draft: null });
  }

  /** @param {string} id */
  forget(id) {
    this.list.delete(id);
    this.known.delete(id);
    this.stored.delete(id);
    this.drafts.delete(id);
    this.seen.delete(id);
    this.deleted.delete(id);
  }

  /** @param {FileRecord[]} [files] */
  #noteFiles(files = []) {
    for (const file of files) if (!this.files.has(file.id)) this.files.set(file.id, file);
  }

  /**
   * Return the files that a conversation's messages and draft name.
   *
   * @param {string} id
   */
  filesOf(id) {
    const known = this.known.get(id);
    if (!known) return [];
    const messages = [...known.messages.values()].flatMap((one) => (one.role === "user" ? (one.files ?? []) : []));
    return [...messages, ...(known.record.draft?.files ?? [])];
  }
}

/**
 * @param {string} id
 * @returns {ConversationRecord}
 */
function emptyRecord(id) {
  return {
    ...{ id, title: "", created: 0, updated: Date.now(), pinned: false, model: "", system: "" },
    ...{ parameters: {}, choices: {}, draft: null, deleted: null },
  };
}

/**
 * Return a copy of a conversation with new ids.
 *
 * @param {Known} known
 */
export function copyOf(known) {
  const ids = new Map([...known.messages.keys()].map((old) => [old, newId("m_")]));
  /** @param {string} old */
  const renamed = (old) => ids.get(old) ?? old;
  const choices = Object.entries(known.record.choices).map(([at, chosen]) => [renamed(at), renamed(chosen)]);
  /** @type {ConversationRecord} */
  const record = { ...known.record, id: newId("c_"), choices: Object.fromEntries(choices) };
  const messages = [...known.messages.values()].map((one) => ({
    ...one,
    id: renamed(one.id),
    parent: ids.get(one.parent ?? "") ?? null, // what is above it may not have been read here
    conversation: record.id,
  }));
  return { record, messages };
}
