// The list of conversations: its state, and what can be done with them.

import { html, render } from "../../../vendor/preact-htm.js";
import { download, offer } from "../../shell/download.js";
import { el, fill, joined, pluralText, texts } from "../../shell/page.js";
import { wordsOf } from "../search_words.js";
import { problemWords } from "../state/problems.js";
import { all, erase, eraseAll } from "../state/store.js";
import { Search } from "./search.js";
import { Sidebar } from "./view.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { Hit } from "./search.js" */
/** @import { ListState } from "./view.js" */

const DAY_MS = 86_400_000;
const UNDO_MS = 20_000;
/** How long unsent changes may delay an export. */
const FLUSH_MS = 5000;

/** Renders the conversations of a chat into the sidebar; its methods are the actions of the view. */
export class ConversationList {
  #root;
  #chat;
  /** @type {ListState} */
  #state;
  #search;
  #query = "";
  /** @type {number | undefined} */
  #undoing;

  /**
   * @param {HTMLElement} root
   * @param {Chat} chat
   * @param {() => void} help shows the keyboard shortcuts
   */
  constructor(root, chat, help) {
    this.#root = root;
    this.#chat = chat;
    this.#search = new Search(chat);
    this.#state = {
      ...{ conversations: [], current: null, answering: new Set(), deleted: null, found: null, wanted: null },
      ...{ movable: 0, connection: chat.history?.connection.status ?? null, place: chat.place },
    };
    this.help = help;
    this.move = () => {};
    chat.on("connection", (connection) => this.#show({ connection }));
    chat.on("record", (record) => this.#recordChanged(record));
    chat.on("removed", ({ id }) => this.#show({ conversations: this.#others(id) }));
    chat.on("records", () => this.reload());
    chat.on("status", () => this.#show({}));
  }

  /** Read the list; what was deleted more than a day ago is deleted from the database. */
  async reload() {
    const found = await all("conversations");
    if (found.some((one) => one.id === this.#state.deleted?.id && !one.deleted)) this.#cannotUndo();
    for (const one of found) {
      const isOld = one.deleted && one.id !== this.#state.deleted?.id && Date.now() - one.deleted > DAY_MS;
      if (isOld && !this.#chat.history) erase(one.id); // the server does that itself
    }
    const known = found.map((one) => this.#chat.recordOf(one.id) ?? one);
    this.#search.forget(null);
    this.#show({ conversations: known.filter((one) => !one.deleted) });
  }

  /** @param {Partial<ListState>} change */
  #show(change) {
    const { current, answering } = this.#chat;
    const underWay = new Set(answering);
    for (const one of change.conversations ?? this.#state.conversations) if (one.answering) underWay.add(one.id);
    Object.assign(this.#state, { current: current?.started ? current.id : null, answering: underWay }, change);
    render(html`<${Sidebar} state=${{ ...this.#state }} list=${this} />`, this.#root);
  }

  /** @param {string} id */
  #others(id) {
    return this.#state.conversations.filter((one) => one.id !== id);
  }

  /** @param {ConversationRecord} record */
  #recordChanged(record) {
    if (record.temporary) return;
    const others = this.#others(record.id);
    this.#search.forget(record.id);
    this.#show({ conversations: record.deleted ? others : [record, ...others] });
  }

  /**
   * Show that conversations of this browser can be moved to the server.
   *
   * @param {number} movable
   * @param {() => void} move
   */
  showMovable(movable, move) {
    this.move = move;
    this.#show({ movable });
  }

  // Actions

  /** @param {string | null} id */
  open(id) {
    this.#chat.open(id);
  }

  /**
   * @param {ConversationRecord} one
   * @param {string} title
   */
  rename(one, title) {
    this.#chat.change(one.id, { title });
  }

  /** @param {ConversationRecord} one */
  pin(one) {
    this.#chat.change(one.id, { pinned: !one.pinned });
  }

  /**
   * Delete a conversation, and offer to undo that.
   *
   * @param {ConversationRecord} one
   */
  async remove(one) {
    await this.#chat.change(one.id, { deleted: Date.now() });
    this.#finishDeleting();
    this.#undoing = setTimeout(() => this.#finishDeleting(), UNDO_MS);
    this.#show({ deleted: one });
    if (this.#chat.current?.id === one.id) await this.#chat.open(null, { keepFocus: true });
    this.#focus(".undo button");
  }

  /** Offer no more to undo the last deletion. */
  #cannotUndo() {
    clearTimeout(this.#undoing);
    this.#show({ deleted: null });
  }

  /** Delete for good what can be brought back until now. */
  #finishDeleting() {
    const { deleted } = this.#state;
    if (!deleted) return;
    this.#cannotUndo();
    erase(deleted.id).catch(() => {}); // what cannot be deleted now is deleted after a day
  }

  /** Delete all conversations, if the visitor confirms it. */
  async removeAll() {
    const { mayEraseAll } = await this.#chat.load(() => import("../dialogs/erase_all.js"));
    const { history } = this.#chat;
    const { ownPrompts, removePrompts } = await this.#importPrompts();
    const prompts = await ownPrompts();
    if (!(await mayEraseAll(this.#state.conversations.length, history !== null, prompts.length))) return;
    this.#cannotUndo();
    await this.#chat.open(null, { keepFocus: true });
    try {
      await eraseAll();
      await removePrompts(prompts.map(({ id }) => id));
    } catch (error) {
      const why = problemWords(error);
      this.#chat.report({ text: fill(texts.sidebar.not_deleted, { why }) });
    }
    await this.reload();
    this.#chat.notifyTabs(null);
    this.#focus('input[type="search"]');
  }

  /** Undo the last deletion. */
  async undo() {
    const one = this.#state.deleted;
    this.#cannotUndo();
    if (!one) return;
    await this.#chat.change(one.id, { deleted: null });
    this.#show({ wanted: { id: one.id, focus: true } });
  }

  /** @param {string} selector */
  #focus(selector) {
    /** @type {HTMLElement | null} */
    const node = this.#root.querySelector(selector);
    node?.focus();
  }

  /**
   * Show the read-only links, and offer to make one to a conversation; null: only those there are.
   *
   * @param {ConversationRecord | null} one
   */
  async share(one) {
    const { history } = this.#chat;
    const { showLinks } = await this.#chat.load(() => import("../dialogs/share.js"));
    if (history) showLinks(history, one && { conversation: one.id });
  }

  #importPrompts() {
    return this.#chat.load(() => import("../prompts/prompt_store.js"));
  }

  #importExport() {
    return this.#chat.load(() => import("../transfer/export.js"));
  }

  /**
   * Search for what is typed; what was found is shown when it is known.
   *
   * @param {string} query
   */
  async search(query) {
    this.#query = query.trim();
    if (!this.#query) {
      this.#search.cancel();
      this.#show({ found: null });
      return;
    }
    const found = await this.#search.find(this.#query);
    if (found) this.#show({ found });
  }

  /**
   * Open a conversation at a passage that was found.
   *
   * @param {Hit} hit
   */
  openHit({ conversation, message, file }) {
    const passage = message ? { message, words: wordsOf(this.#query), file } : null;
    this.#chat.open(conversation, { passage });
  }

  /**
   * Offer one conversation as a download.
   *
   * @param {ConversationRecord} one
   * @param {"json" | "markdown"} style
   */
  async exportOne(one, style) {
    const { asMarkdown, fileName, gather } = await this.#importExport();
    if (style === "markdown") {
      const text = await asMarkdown(one, (id) => this.#chat.modelName(id));
      download(fileName(one.title, "md"), text, "text/markdown");
    } else {
      download(fileName(one.title, "json"), JSON.stringify(await gather([one])), "application/json");
    }
  }

  /** Offer all conversations as one download. */
  async exportAll() {
    const name = `roxy-conversations-${new Date().toISOString().slice(0, 10)}.json`;
    const { history } = this.#chat;
    if (history && (await history.connection.flush(FLUSH_MS))) offer(name, "/api/v1/history/export");
    else {
      const { gather } = await this.#importExport();
      const { ownPrompts } = await this.#importPrompts();
      const everything = await gather(this.#state.conversations, await ownPrompts());
      download(name, JSON.stringify(everything), "application/json");
    }
  }

  /** Let the visitor choose an export, and import it. */
  importFile() {
    const input = el("input", { type: "file", accept: ".json,application/json", hidden: true });
    input.addEventListener("cancel", () => input.remove());
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      input.remove();
      if (file) this.#import(file);
    });
    document.body.append(input); // Safari may forget one that is on no page before a file is chosen
    input.click();
  }

  /** @param {File} file */
  async #import(file) {
    const { importText } = await this.#chat.load(() => import("../transfer/import.js"));
    try {
      const { arrived, known } = await importText(await file.text(), this.#chat.history);
      const words = [pluralText(texts.sidebar.imported, arrived)];
      if (known) words.push(pluralText(texts.sidebar.already_here, known));
      this.#chat.report({ text: joined(...words), calm: true });
    } catch (error) {
      const why = problemWords(error);
      this.#chat.report({ text: fill(texts.sidebar.not_imported, { file: file.name, why }) });
    }
    await this.reload();
    this.#chat.notifyTabs(null);
    this.#chat.emit("settings", null);
  }
}
