// The list of conversations: its state, and what can be done with them.

import { html, render } from "../../../vendor/preact-htm.js";
import { el } from "../../shell/page.js";
import { all, erase } from "../state/store.js";
import { Sidebar } from "./view.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { ListState } from "./view.js" */

const DAY_MS = 86_400_000;
const UNDO_MS = 20_000;

/** Renders the conversations of a chat into the sidebar; its methods are the actions of the view. */
export class ConversationList {
  #root;
  #chat;
  /** @type {ListState} */
  #state = { conversations: [], current: null, answering: new Set(), deleted: null, texts: null };
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
    this.help = help;
    chat.on("record", (record) => this.#recordChanged(record));
    chat.on("removed", ({ id }) => this.#show({ conversations: this.#others(id) }));
    chat.on("records", () => this.reload());
    chat.on("status", () => this.#show({}));
  }

  /** Read the list; what was deleted more than a day ago is deleted from the database. */
  async reload() {
    const found = await all("conversations");
    for (const one of found) {
      const isOld = one.deleted && one.id !== this.#state.deleted?.id && Date.now() - one.deleted > DAY_MS;
      if (isOld && !this.#chat.history) erase(one.id); // the server does that itself
    }
    const known = found.map((one) => this.#chat.recordOf(one.id) ?? one);
    this.#show({ conversations: known.filter((one) => !one.deleted) });
  }

  /** @param {Partial<ListState>} change */
  #show(change) {
    const { current, answering } = this.#chat;
    Object.assign(this.#state, { current: current?.started ? current.id : null, answering }, change);
    render(html`<${Sidebar} state=${{ ...this.#state }} list=${this} />`, this.#root);
  }

  /** @param {string} id */
  #others(id) {
    return this.#state.conversations.filter((one) => one.id !== id);
  }

  /** @param {ConversationRecord} record */
  #recordChanged(record) {
    const others = this.#others(record.id);
    this.#show({ conversations: record.deleted ? others : [record, ...others], texts: null });
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
    clearTimeout(this.#undoing);
    this.#undoing = setTimeout(() => this.#show({ deleted: null }), UNDO_MS);
    this.#show({ deleted: one });
    if (this.#chat.current?.id === one.id) await this.#chat.open(null, { keepFocus: true });
    this.#focus(".undo button");
  }

  /** Undo the last deletion. */
  async undo() {
    const one = this.#state.deleted;
    clearTimeout(this.#undoing);
    this.#show({ deleted: null });
    if (!one) return;
    await this.#chat.change(one.id, { deleted: null });
    this.#focus(`a[href="/c/${one.id}"]`);
  }

  /** @param {string} selector */
  #focus(selector) {
    /** @type {HTMLElement | null} */
    const node = this.#root.querySelector(selector);
    node?.focus();
  }

  #importExport() {
    return this.#chat.load(() => import("../state/export.js"));
  }

  /** Read the words of all conversations for the search. */
  async loadTexts() {
    if (this.#state.texts) return;
    const { allTexts } = await this.#importExport();
    this.#show({ texts: await allTexts() });
  }

  /**
   * Offer one conversation as a download.
   *
   * @param {ConversationRecord} one
   * @param {"json" | "markdown"} style
   */
  async exportOne(one, style) {
    const { asMarkdown, download, fileName, gather } = await this.#importExport();
    if (style === "markdown") {
      const text = await asMarkdown(one, (id) => this.#chat.modelName(id));
      download(fileName(one.title, "md"), text, "text/markdown");
    } else {
      download(fileName(one.title, "json"), JSON.stringify(await gather([one])), "application/json");
    }
  }

  /** Offer all conversations as one download. */
  async exportAll() {
    const { download, gather } = await this.#importExport();
    const day = new Date().toISOString().slice(0, 10);
    const text = JSON.stringify(await gather(this.#state.conversations));
    download(`roxy-conversations-${day}.json`, text, "application/json");
  }

  /** Let the visitor choose an export, and import it. */
  importFile() {
    const input = el("input", { type: "file", accept: ".json,application/json" });
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      if (file) this.#import(file);
    });
    input.click();
  }

  /** @param {File} file */
  async #import(file) {
    const { importText } = await this.#chat.load(() => import("../state/import.js"));
    try {
      await importText(await file.text());
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#chat.report({ text: `“${file.name}” was not imported. ${why}` });
    }
    this.#show({ texts: null });
    await this.reload();
    this.#chat.notifyTabs(null);
  }
}
