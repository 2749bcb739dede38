// Sends unsent changes to the server, and settles what other devices have written meanwhile.

import { ApiError, callJson } from "../../shell/api.js";
import { texts } from "../../shell/page.js";
import { newId } from "../state/store.js";
import { inParts, pathOf } from "./upload.js";
import { copyOf } from "./view.js";
import { unpackDraft, unpackMessage } from "./wire.js";

/** @import { Database } from "../state/store.js" */
/** @import { Draft, Message } from "../state/types.js" */
/** @import { Link } from "./link.js" */
/** @import { Outbox, Unsent } from "./outbox.js" */
/** @import { Remote } from "./remote.js" */
/** @import { ServerFiles } from "./server_files.js" */
/** @import { Known } from "./view.js" */
/** @import { Sent } from "./wire.js" */

/** Sends the outbox of a Remote, one conversation at a time. */
export class Sender {
  #remote;
  #view;
  #outbox;
  #database;
  #files;
  #link;

  /**
   * @param {Remote} remote
   * @param {{ outbox: Outbox, database: Database, files: ServerFiles, link: Link }} parts
   */
  constructor(remote, { outbox, database, files, link }) {
    this.#remote = remote;
    this.#view = remote.view;
    this.#outbox = outbox;
    this.#database = database;
    this.#files = files;
    this.#link = link;
  }

  /**
   * True while a conversation's changes had better wait: the gateway may refuse the question.
   *
   * @param {string} id
   */
  mayBeRefused(id) {
    const messages = Object.values(this.#outbox.of(id)?.messages ?? {});
    return messages.some((one) => one.role === "assistant" && one.state === "open" && !one.accepted);
  }

  /** True if there is nothing to send yet but files of a chat that is not started. @param {string} id */
  isUnstarted(id) {
    const unsent = this.#outbox.of(id);
    if (!unsent || unsent.erase || this.#view.stored.has(id)) return false;
    return !unsent.set.created && !Object.keys(unsent.messages).length;
  }

  /**
   * Send a conversation's changes. Raises ApiError, and nothing is lost.
   *
   * @param {string} id
   */
  async send(id) {
    const unsent = this.#outbox.take(id);
    if (!unsent) return;
    try {
      if (unsent.erase) await this.#sendErasure(id);
      else await this.#sendChanges(id, unsent);
      await this.#outbox.sent(id);
    } catch (error) {
      if (error instanceof ApiError && error.code === "conversation_erased") {
        await this.#revive(id, unsent);
        return;
      }
      this.#outbox.restore(id);
      throw error;
    }
  }

  /** @param {string} id */
  async #sendErasure(id) {
    try {
      await callJson(pathOf(id), this.#link.options({ method: "DELETE" }));
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
  }

  /**
   * @param {string} id
   * @param {Unsent} unsent
   */
  async #sendChanges(id, unsent) {
    for (const file of unsent.files) await this.#files.send(file, id);
    const bodies = inParts(unsent, this.#view.versions);
    for (const body of bodies) {
      const options = this.#link.options({ method: "POST", body: JSON.stringify(body) });
      const saved = await callJson(pathOf(id), options);
      await this.#takeSaved(id, saved, unsent);
    }
    if (unsent.files.length) await this.#database.remove("files", unsent.files);
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
    if (saved.cursor === this.#remote.cursor + 1) this.#remote.cursor = saved.cursor;
    for (const [message, version] of Object.entries(saved.versions)) this.#view.versions.set(message, Number(version));
    const later = this.#outbox.waitingOf(id);
    const known = this.#view.known.get(id);
    const version = saved.conversation.draft_version ?? 0;
    this.#outbox.rebaseDraft(id, version);
    let changed = this.#view.takeMessages(id, saved.newer ?? [], saved.removed ?? [], later);
    for (const stored of known ? saved.conflicts : []) {
      await this.#branch(/** @type {Known} */ (known), stored, sent);
      changed = true;
    }
    if (saved.draft_conflict) {
      const stored = /** @type {Draft} */ (unpackDraft(saved.draft_conflict));
      await this.#outbox.joinDraft(id, stored, sent.draft?.value ?? null, version);
      this.#link.sendSoon();
    }
    if (known) changed = this.#view.takeRecord(saved.conversation, this.#outbox.waitingOf(id)) || changed;
    else this.#view.takeLine(saved.conversation, later);
    if (changed) this.#remote.listener?.changed([id]);
    this.#remote.listener?.list();
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
    if (!mine?.text || mine.text === theirs.text) return;
    /** @type {Message} */
    const branch = { ...mine, id: newId("m_") };
    this.#view.setMessage(known, branch);
    const choices = { [branch.parent ?? "root"]: branch.id };
    known.record.choices = { ...known.record.choices, ...choices };
    await this.#outbox.add(id, { messages: { [branch.id]: branch }, set: { choices } });
    this.#link.sendSoon();
  }

  /**
   * Keep what was written in a conversation that another device has erased: in a new one.
   *
   * @param {string} id
   * @param {Unsent} unsent
   */
  async #revive(id, unsent) {
    const known = this.#view.known.get(id) ?? this.#view.takeUnsent(id, unsent);
    const typed = Object.values(unsent.messages).some((message) => message.role === "user") || unsent.draft?.value;
    await this.#outbox.drop(id);
    this.#remote.wasErased(id);
    if (!typed) return;
    const { record, messages } = copyOf(known);
    await this.#remote.putAll({ conversations: [record], messages });
    if (unsent.files.length) await this.#outbox.add(record.id, { files: unsent.files });
    this.#remote.listener?.problem(texts.history.deleted_elsewhere);
    this.#remote.listener?.list();
  }
}
