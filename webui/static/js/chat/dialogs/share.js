// Read-only links: make one to a conversation or an answer, copy it, and revoke those that were made.

import { ApiError, call, callJson } from "../../shell/api.js";
import { copyFrom } from "../../shell/clipboard.js";
import { showDialog } from "../../shell/dialog.js";
import { el, fill, icon, iconButton, language, texts } from "../../shell/page.js";
import { problemWords } from "../state/problems.js";

/** @import { Remote } from "../history/remote.js" */

/**
 * A link, as the gateway describes it.
 *
 * @typedef {object} Share
 * @property {string} id
 * @property {string} url
 * @property {string} title
 * @property {number} created
 * @property {string} conversation
 * @property {string | null} message
 */

/** What to share: a conversation, or one answer in it. @typedef {{ conversation: string, message?: string }} Shared */

/** How long unsent changes may delay a link. */
const FLUSH_MS = 5000;

/** The links of a person in a dialog. */
class Links {
  #history;
  #shared;
  #list = el("ul", { class: "shares", "aria-label": texts.dialogs.links });
  #none = el("p", { class: "quiet small" }, texts.dialogs.no_links);
  #problem = el("p", { role: "alert", class: "problem bad", hidden: true });
  /** @type {HTMLElement | null} */
  #made = null;

  /**
   * @param {Remote} history
   * @param {Shared | null} shared
   */
  constructor(history, shared) {
    this.#history = history;
    this.#shared = shared;
  }

  /** Show the dialog. */
  show() {
    const isAnswer = Boolean(this.#shared?.message);
    const make = el(
      "button",
      { type: "button", class: "button primary", autofocus: true },
      icon("link"),
      texts.dialogs.create_link,
    );
    const made = el("div", { class: "share-made" });
    make.addEventListener("click", () => this.#make(make, made));
    const dialog = el(
      "dialog",
      { class: "share", "aria-labelledby": "share-title" },
      el("h2", { id: "share-title" }, this.#shared ? texts.dialogs.share : texts.dialogs.shared),
      this.#shared && el("p", {}, isAnswer ? texts.dialogs.share_answer : texts.dialogs.share_chat),
      this.#shared && el("p", {}, make),
      made,
      this.#problem,
      this.#shared && el("h3", {}, texts.dialogs.all_links),
      this.#none,
      this.#list,
    );
    showDialog(dialog);
    this.#load();
  }

  async #load() {
    try {
      const { data } = await callJson("history/shares", this.#history.connection.options());
      this.#list.replaceChildren(...data.map((/** @type {Share} */ share) => this.#entry(share)));
      this.#count();
    } catch (error) {
      this.#fail(error);
    }
  }

  #count() {
    this.#none.hidden = this.#list.childElementCount > 0;
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#problem.textContent = problemWords(error);
    this.#problem.hidden = false;
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {HTMLElement} place
   */
  async #make(button, place) {
    button.disabled = true;
    this.#problem.hidden = true;
    try {
      await this.#history.connection.flush(FLUSH_MS); // the link shows what the server has
      const body = JSON.stringify(this.#shared);
      /** @type {Share} */
      const share = await callJson("history/shares", this.#history.connection.options({ method: "POST", body }));
      const field = el("input", { type: "text", readonly: true, value: share.url, "aria-label": texts.dialogs.link });
      const copy = el(
        "button",
        { type: "button", class: "button" },
        icon("copy"),
        el("span", {}, texts.dialogs.copy_link),
      );
      copy.addEventListener("click", () => copyFrom(copy, share.url));
      place.replaceChildren(field, copy);
      this.#made = place;
      this.#list.prepend(this.#entry(share));
      this.#count();
      field.focus();
      field.select();
    } catch (error) {
      this.#fail(error);
    }
    button.disabled = false;
  }

  /** @param {Share} share */
  #entry(share) {
    const day = new Date(share.created).toLocaleString(language, {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const name = share.title || texts.dialogs.new_chat;
    const copy = iconButton("copy", fill(texts.dialogs.copy_link_to, { name }));
    copy.addEventListener("click", () => copyFrom(copy, share.url));
    const revoke = el(
      "button",
      { type: "button", class: "button", "aria-label": fill(texts.dialogs.revoke_link_to, { name }) },
      texts.dialogs.revoke,
    );
    const entry = el(
      "li",
      {},
      el(
        "span",
        { class: "share-name" },
        el("a", { href: share.url, target: "_blank", rel: "noopener noreferrer", class: "clip" }, name),
        el("span", { class: "quiet small" }, share.message ? fill(texts.dialogs.one_answer, { day }) : day),
      ),
      copy,
      revoke,
    );
    revoke.addEventListener("click", () => this.#revoke(share, entry, revoke));
    return entry;
  }

  /**
   * @param {Share} share
   * @param {HTMLElement} entry
   * @param {HTMLButtonElement} button
   */
  async #revoke(share, entry, button) {
    button.disabled = true;
    try {
      await call(`history/shares/${share.id}`, this.#history.connection.options({ method: "DELETE" }));
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) {
        this.#fail(error);
        button.disabled = false;
        return;
      }
    }
    const next = entry.nextElementSibling ?? entry.previousElementSibling;
    entry.remove();
    if (this.#made?.querySelector("input")?.value === share.url) this.#made.replaceChildren();
    this.#count();
    const focused = next?.querySelector("button") ?? this.#list.closest("dialog")?.querySelector("button");
    if (focused instanceof HTMLElement) focused.focus();
  }
}

/**
 * Show the links, and offer to make one; null: only those there are.
 *
 * @param {Remote} history
 * @param {Shared | null} shared
 */
export const showLinks = (history, shared) => new Links(history, shared).show();
