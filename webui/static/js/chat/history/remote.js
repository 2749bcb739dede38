// Conversations on the server, as a place for records: what was read is kept in memory, what was written
// waits in the outbox until the server has it. Who calls whom:
//
//   store.js ──► Remote ──► View            what is known here of each conversation
//                  │  ▲ └──► Outbox         what the server does not have yet, kept in this browser
//          sendSoon│  │poll, adopted
//                  ▼  │
//              Connection ──► Sender        `send` of one conversation: POST or DELETE, then what others have
//                  │            │           written meanwhile goes into the View, the Outbox and back to
//                  │            ▼           Remote (`wasBack`, `wasErased`, `putAll` of a copy)
//                  │         ServerFiles    contents of files, before the changes that name them
//                  └──► ServerSettings      joins the settings (`sendSettings`)
//
// The page hears of it by the RemoteListener (state/elsewhere.js).

import { ApiError, callJson } from "../../shell/api.js";
import { fill, texts } from "../../shell/page.js";
import { keepEdited, newId, withOthers } from "../state/records.js";
import { Connection } from "./connection.js";
import { OpenSaves } from "./open_saves.js";
import { Outbox } from "./outbox.js";
import { Sender } from "./sender.js";
import { ServerFiles } from "./server_files.js";
import { ServerSettings } from "./server_settings.js";
import { pathOf } from "./upload.js";
import { View } from "./view.js";
import { alike, differences, packDraft, packMessage, textsBefore } from "./wire.js";

/**
 * @import {
 *   ConversationRecord, FileRecord, Message, Place, RecordGroups, Records, RemoteListener, SettingRecord,
 *   StoreName,
 * } from "../state/types.js"
 */
/** @import { Database } from "../state/store.js" */
/** @import { Unsent } from "./outbox.js" */
/** @import { Known } from "./view.js" */
/** @import { Sent } from "./wire.js" */

/**
 * The history of one person on the server.
 *
 * @implements {Place}
 */
export class Remote {
  view = new View();
  #database;
  #outbox;
  #connection;
  /** @type {RemoteListener | null} */
  listener = null;
  /** @type {Map<string, Promise<Known | undefined>>} */
  #reading = new Map();
  #openSaves = new OpenSaves();
  #files;
  /** The number of the last write on the server that is known here. */
  cursor = 0;
  /** The numbers of the last known writes in conversations, by their ids. @type {Map<string, number>} */
  latest = new Map();
  /** Conversations that are erased on the server, with changes here that are not sent. @type {Set<string>} */
  gone = new Set();
  /** The open conversation. @type {string | null} */
  #watched = null;
  #settings;
  usage = { used: 0, quota: 0 };

  /**
   * @param {string} person a mark for the person
   * @param {Database} database of this browser, for this person
   */
  constructor(person, database) {
    const tab = newId("t");
    this.name = database.name;
    this.#database = database;
    this.#outbox = new Outbox(this.#database, tab);
    this.#connection = new Connection(this, this.#outbox, person, tab);
    this.#files = new ServerFiles(this.#database, this.view, this.#connection);
    const parts = { outbox: this.#outbox, database, files: this.#files, connection: this.#connection };
    this.sender = new Sender(this, parts);
    this.#settings = new ServerSettings(this.#database, this.#connection);
  }

  /**
   * Begin to follow the server.
   *
   * @param {RemoteListener} listener
   */
  start(listener) {
    this.listener = listener;
    this.#settings.start(listener.settings, listener.problem);
    this.#connection.start(listener);
  }

  /** Send settings that have changed here. */
  sendSettings() {
    return this.#settings.send();
  }

  /** The database of this browser: for what has no place on the server, and for the outbox. */
  get database() {
    return this.#database;
  }

  get connection() {
    return this.#connection;
  }

  /**
   * Follow the messages of a conversation; null: of none.
   *
   * @param {string | null} id
   */
  watch(id) {
    this.#watched = id;
  }

  isPersistent() {
    return this.#database.isPersistent();
  }

  // Reading

  /**
   * @param {string} id
   * @returns {Promise<Known | undefined>}
   */
  #load(id) {
    const known = this.view.known.get(id);
    if (known && !known.stale) return Promise.resolve(known);
    const reading = this.#reading.get(id) ?? this.#fetch(id).finally(() => this.#reading.delete(id));
    this.#reading.set(id, reading);
    return reading;
  }

  /** @param {string} id */
  async #fetch(id) {
    await this.#connection.ready;
    const unsent = this.#outbox.of(id);
    if (unsent?.erase) return undefined;
    if (unsent?.set.created) {
      await this.#connection.polled;
      if (!this.view.stored.has(id)) return this.view.takeUnsent(id, unsent);
    }
    try {
      let whole;
      // What was sent or heard of while this was being read may not be in it.
      do whole = await callJson(pathOf(id), this.#connection.options());
      while (whole.cursor < (this.latest.get(id) ?? 0));
      return this.view.takeWhole(whole, this.#outbox.of(id));
    } catch (error) {
      const { known } = this.view;
      const isGone = error instanceof ApiError && error.status === 404;
      if (!isGone && known.get(id)) return known.get(id);
      if (isGone) return undefined;
      throw error;
    }
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @param {string} id
   * @returns {Promise<Records[S] | undefined>}
   */
  async find(store, id) {
    if (store === "settings") return this.#database.find(store, id);
    /** @type {unknown} */
    let found;
    if (store === "files") found = await this.#files.find(id);
    else if (store === "conversations") found = structuredClone((await this.#load(id))?.record);
    else for (const known of this.view.known.values()) found ??= structuredClone(known.messages.get(id));
    return /** @type {Records[S] | undefined} */ (found);
  }

  /** @param {string} id */
  isStored(id) {
    return this.#files.isStored(id);
  }

  /**
   * @template {StoreName} S
   * @param {S} store
   * @returns {Promise<Records[S][]>}
   */
  async all(store) {
    if (store !== "conversations") return this.#database.all(store);
    await this.#connection.polled;
    for (const id of this.#outbox.conversations) this.#showUnsent(id);
    return /** @type {Records[S][]} */ (structuredClone([...this.view.list.values()]));
  }

  /**
   * @template {"messages" | "files"} S
   * @param {S} store
   * @param {string} conversation
   * @returns {Promise<Records[S][]>}
   */
  async within(store, conversation) {
    const known = await this.#load(conversation);
    if (!known) return store === "files" ? this.#database.within(store, conversation) : [];
    /** @type {unknown[]} */
    let found = [];
    if (store === "messages") found = structuredClone(this.view.show(known));
    else {
      const files = await Promise.all(this.view.filesOf(conversation).map(({ id }) => this.#files.find(id)));
      found = files.flatMap((file) => (file ? { ...file, conversation } : []));
    }
    return /** @type {Records[S][]} */ (found);
  }

  // Writing

  /** @param {RecordGroups} groups */
  async putAll({ conversations = [], messages = [], files = [], settings = [], seen = [] }) {
    if (settings.length) await this.#settings.put(settings);
    if (files.length) await this.#putFiles(files);
    /** @type {Map<string, Partial<Unsent>>} */
    const changes = new Map();
    const before = new Map(seen.map((one) => [one.id, one]));
    for (const record of conversations) this.#noteRecord(record, before.get(record.id), changes);
    for (const message of messages) this.#noteMessage(message, changes);
    await Promise.all([...changes].map(([id, change]) => this.#outbox.add(id, change)));
    if (changes.size) this.#connection.sendSoon();
  }

  /**
   * @param {ConversationRecord} record
   * @param {ConversationRecord | undefined} seen as the page saw it: others may have changed it since
   * @param {Map<string, Partial<Unsent>>} changes
   */
  #noteRecord(record, seen, changes) {
    const { id } = record;
    const known = this.view.known.get(id)?.record ?? null;
    const merged = known ? withOthers(known, seen ?? known, structuredClone(record)) : structuredClone(record);
    const set = differences(merged, known);
    /** @type {Partial<Unsent>} */
    const change = {};
    if (Object.keys(set).length || !known) change.set = set;
    // A system prompt was joined with the one that is known; a title replaces the one that the person saw.
    change.was = textsBefore(set, known && { system: known.system, title: (seen ?? known).title });
    if (!alike(packDraft(merged.draft), packDraft(known?.draft ?? null)))
      change.draft = {
        value: merged.draft,
        base: this.view.drafts.get(id) ?? (this.view.stored.has(id) ? null : 0),
        was: known?.draft ?? null,
      };
    // A draft that is saved after the chat was deleted here does not bring it back.
    if (change.draft?.value && record.deleted) change.set = { ...change.set, deleted: record.deleted };
    if (set.deleted !== undefined) this.view.noteDeleted(id, set.deleted !== null);
    if (change.set?.deleted) change.version = this.view.deleted.get(id) ?? null;
    this.view.setRecord(merged);
    if (change.set || change.draft) changes.set(id, change);
  }

  /**
   * @param {Message} message
   * @param {Map<string, Partial<Unsent>>} changes
   */
  #noteMessage(message, changes) {
    const known = this.view.known.get(message.conversation);
    if (!known) return; // it was erased meanwhile
    const before = known.messages.get(message.id);
    const copy = structuredClone(message);
    if (before) keepEdited(copy, before);
    if (before && alike(packMessage(before), packMessage(copy))) return;
    this.view.setMessage(known, copy);
    if (before?.role === "assistant" && message.role === "assistant" && this.#openSaves.isTooEarly(before, message))
      return;
    const change = changes.get(message.conversation) ?? {};
    change.messages = { ...change.messages, [message.id]: copy };
    change.bases = { ...change.bases, [message.id]: this.view.shown.get(message.id) ?? null };
    changes.set(message.conversation, change);
  }

  /** @param {FileRecord[]} files */
  async #putFiles(files) {
    for (const { blob, bytes, ...file } of files) this.view.files.set(file.id, file);
    await this.#database.putAll({ files }).catch(() => {}); // without room they are sent from memory
    const byConversation = Map.groupBy(files, (file) => file.conversation ?? "");
    for (const [id, members] of byConversation) {
      // Files of a chat that is not started are sent with its first message.
      await this.#outbox.add(id, { files: members.map((file) => file.id) });
    }
    this.#connection.sendSoon();
  }

  /**
   * @param {string} id
   * @param {Partial<ConversationRecord>} changes
   */
  async change(id, changes) {
    const record = this.view.known.get(id)?.record ?? this.view.list.get(id);
    if (!record) return undefined;
    const changed = { ...structuredClone(record), ...changes };
    if (this.view.known.has(id)) await this.putAll({ conversations: [changed] });
    else {
      if (changes.deleted !== undefined) this.view.noteDeleted(id, changes.deleted !== null);
      this.view.list.set(id, changed);
      const was = textsBefore(changes, record);
      await this.#outbox.add(id, { set: changes, was, version: this.view.deleted.get(id) ?? null });
      this.#connection.sendSoon();
    }
    return structuredClone(changed);
  }

  /**
   * @template {SettingRecord} R, T
   * @param {R} initial
   * @param {(record: R) => T} edit
   */
  changeSetting(initial, edit) {
    return this.#database.changeSetting(initial, edit); // a queue belongs to this browser
  }

  /** @param {string} id */
  async erase(id) {
    const line = this.view.list.get(id);
    if (line && !line.deleted) return; // it came back
    const isSent = this.view.stored.has(id) || this.#outbox.isSending(id);
    const version = this.view.deleted.get(id) ?? this.view.seen.get(id) ?? null;
    this.view.forget(id);
    await this.#database.erase(id);
    if (isSent) await this.#outbox.add(id, { erase: true, version: version || null });
    else await this.#outbox.drop(id);
    this.#connection.sendSoon();
  }

  /** @param {string} id */
  async takeBack(id) {
    const known = this.view.known.get(id);
    const isSent = this.view.stored.has(id) || this.#outbox.isSending(id);
    if (!isSent) {
      await this.#outbox.drop(id);
      this.view.forget(id);
    } else if (known) {
      // An erased id cannot be used again, so that the conversation goes to the trash.
      await this.putAll({ conversations: [{ ...structuredClone(known.record), deleted: Date.now(), draft: null }] });
      known.messages.clear();
    }
  }

  /** @param {string[]} ids */
  async eraseMessages(ids) {
    for (const [id, known] of this.view.known) {
      const here = ids.flatMap((message) => known.messages.get(message) ?? []);
      if (!here.length) continue;
      /** @type {Unsent["remove"]} */
      const remove = {};
      for (const message of here) {
        const seq = message.role === "assistant" ? message.seq : 0;
        remove[message.id] = { base: this.view.takeVersion(message.id), seq };
        known.messages.delete(message.id);
      }
      await this.#outbox.add(id, { remove });
      this.#connection.sendSoon();
    }
  }

  async eraseAll() {
    await callJson("history", this.#connection.options({ method: "DELETE" }));
    for (const id of this.#outbox.conversations) await this.#outbox.drop(id);
    for (const id of [...this.view.list.keys()]) this.view.forget(id);
    await this.#database.eraseAll();
    this.#connection.pollNow();
  }

  // Following the server (called by the connection)

  /** Read what has changed since the last time. Returns true if there is more to read at once. */
  async poll() {
    const since = this.cursor;
    const open = this.#watched && this.view.known.has(this.#watched) ? `&open=${this.#watched}` : "";
    const changes = await callJson(`history/changes?since=${since}${open}`, this.#connection.options());
    if (this.cursor !== since) return true; // a change of this tab was sent meanwhile
    this.cursor = changes.cursor;
    this.usage = { used: changes.used_bytes, quota: changes.quota_bytes };
    if (changes.settings) await this.#settings.take(changes.settings);
    for (const { id } of changes.conversations) this.latest.set(id, changes.cursor);
    const { listed, changed } = this.#takeChanges(changes, since);
    for (const id of changes.erased) this.#erasedElsewhere(id);
    if (listed || changes.erased.length) this.listener?.list();
    if (changed.length) this.listener?.changed(changed);
    return Boolean(changes.more);
  }

  /**
   * @param {{ reset: boolean, conversations: Sent[], open: Sent | null }} changes
   * @param {number} since
   */
  #takeChanges({ reset, conversations, open }, since) {
    /** @type {Set<string>} */
    const changed = new Set();
    let listed = since === 0;
    if (reset) {
      const kept = new Set(conversations.map(({ id }) => id));
      for (const id of [...this.view.stored]) if (!kept.has(id)) this.#erasedElsewhere(id);
      for (const known of this.view.known.values()) known.stale = true;
    }
    for (const summary of conversations) {
      const unsent = this.#outbox.of(summary.id);
      if (unsent?.erase) continue;
      if (this.view.takeSummary(summary, unsent)) listed = true;
      if (!unsent?.set.deleted && this.view.isBack(summary)) this.wasBack(summary);
      const known = this.view.known.get(summary.id);
      if (!known || open?.conversation.id === summary.id) continue;
      known.stale = true;
      changed.add(summary.id);
    }
    if (open) {
      const { id } = open.conversation;
      const unsent = this.#outbox.of(id);
      const isNew = this.view.takeRecord(open.conversation, unsent);
      if (this.view.takeMessages(id, open.messages, open.removed, unsent) || isNew) changed.add(id);
    }
    return { listed, changed: [...changed] };
  }

  /** @param {string} id */
  #erasedElsewhere(id) {
    const unsent = this.#outbox.of(id);
    if (unsent && !unsent.erase) this.gone.add(id);
    else this.wasErased(id);
  }

  /**
   * Forget a conversation that is erased on the server.
   *
   * @param {string} id
   */
  async wasErased(id) {
    this.gone.delete(id);
    this.view.forget(id);
    this.listener?.erased(id);
    await this.#database.erase(id);
  }

  /**
   * Show a conversation again that was to be erased, and that another device has changed since it was deleted here.
   *
   * @param {string} id
   */
  async wasKept(id) {
    const whole = await callJson(pathOf(id), this.#connection.options());
    const { record } = this.view.takeWhole(whole, this.#outbox.waitingOf(id));
    if (!record.deleted) this.wasBack({ ...record }); // else the server erases it after a day
    this.listener?.list();
  }

  /**
   * Say that a conversation that was deleted here is in the list again: another device has gone on with it.
   *
   * @param {Sent} conversation
   */
  wasBack({ id, title }) {
    this.view.noteDeleted(id, false);
    this.listener?.problem(fill(texts.history.kept, { title: title || texts.sidebar.new_chat }));
  }

  /** Show what tabs that are gone have left unsent. @param {string[]} ids */
  adopted(ids) {
    for (const id of ids) {
      const unsent = this.#outbox.of(id);
      const known = this.view.known.get(id);
      if (unsent) this.view.changeLine(id, unsent);
      if (unsent && known) this.view.addUnsent(known, unsent);
    }
    this.listener?.list();
    this.listener?.changed(ids);
  }

  /** Show a conversation that the server does not have yet. @param {string} id */
  #showUnsent(id) {
    const unsent = this.#outbox.of(id);
    const { known, list, stored } = this.view;
    if (unsent?.set.created && !known.has(id) && !list.has(id) && !stored.has(id)) this.view.takeUnsent(id, unsent);
  }

  // More than a place for records

  /**
   * Search everything. Raises ApiError.
   *
   * @param {string} query
   * @param {AbortSignal} signal
   */
  search(query, signal) {
    return callJson(`history/search?limit=100&q=${encodeURIComponent(query)}`, this.#connection.options({ signal }));
  }

  /** End: the person signs out. What is written later is lost with the tab. */
  async leave() {
    this.name = "";
    this.#connection.stop();
    await this.#database.leave();
  }
}
