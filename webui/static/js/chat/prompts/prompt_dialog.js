// The dialog in which prompts are added, changed and deleted.

import { showDialog } from "../../shell/dialog.js";
import { announce, el, fill, iconButton, texts } from "../../shell/page.js";
import { titleOf } from "../state/records.js";
import { MAX_NAME_CHARS, ownPrompts, PromptRefused, removePrompts, savePrompt } from "./prompt_store.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { Prompt } from "./prompt_store.js" */

const PLACEHOLDER = "{{…}}";

/** A dialog that shows the list of prompts, or the fields of one. */
class PromptDialog {
  #chat;
  #inside = el("div");
  #root = el("dialog", { class: "prompts-dialog", "aria-labelledby": "prompts-title" }, this.#inside);
  #isList = false;
  /** @type {Prompt | null} the one that can be brought back */
  #deleted = null;
  /** Return whether something was typed that is not saved. */
  #isUnsaved = () => false;
  #refused = false;

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
    this.#root.addEventListener("cancel", (event) => this.#leave(event));
  }

  show() {
    showDialog(this.#root);
  }

  #close = () => this.#root.close();

  /**
   * Stay once with what is not saved; Esc again leaves it.
   *
   * @param {Event} event
   */
  #leave(event) {
    if (!this.#isUnsaved() || this.#refused) return;
    event.preventDefault();
    this.#refused = true;
    const note = this.#root.querySelector("[role=alert]");
    if (note) note.textContent = texts.prompts.unsaved;
    const cancel = this.#root.querySelector("[data-cancel]");
    if (cancel) cancel.textContent = texts.prompts.discard;
  }

  /**
   * Show all prompts.
   *
   * @param {Prompt | null} [deleted] offers to bring it back
   */
  async list(deleted = null) {
    this.#isUnsaved = () => false;
    this.#isList = true;
    this.#deleted = deleted;
    const focused = this.#root.contains(document.activeElement) ? document.activeElement : null;
    const label = focused?.getAttribute("aria-label") || focused?.textContent;
    const prompts = await ownPrompts();
    if (!this.#isList) return; // the fields of one were opened meanwhile
    const rows = prompts.map((prompt) => this.#row(prompt));
    const undo = deleted ? this.#undo(deleted) : null;
    const done = el("button", { type: "button", class: "button", onclick: this.#close }, texts.prompts.done);
    const add = el(
      "button",
      { type: "button", class: "button primary", onclick: () => this.form({ name: "", text: "" }) },
      texts.prompts.new,
    );
    this.#inside.replaceChildren(
      el("h2", { id: "prompts-title" }, texts.prompts.prompts),
      el("p", { class: "quiet small" }, rows.length ? texts.prompts.about : texts.prompts.empty),
      ...(rows.length ? [el("ul", { class: "prompt-rows" }, ...rows)] : []),
      ...(undo ? [undo] : []),
      el("p", { class: "buttons" }, add, done),
    );
    const buttons = [...this.#inside.querySelectorAll("button")];
    const same = buttons.find((one) => label && (one.ariaLabel || one.textContent) === label);
    (undo?.querySelector("button") ?? same ?? add).focus();
  }

  /** Show what another device has changed. */
  async refresh() {
    if (this.#isList && this.#root.open) await this.list(this.#deleted);
  }

  /** @param {Prompt} prompt */
  #row(prompt) {
    const { id, name, text } = prompt;
    const edit = iconButton("pencil", fill(texts.prompts.edit, { name }), { onclick: () => this.form(prompt) });
    const remove = iconButton("trash-2", fill(texts.prompts.delete, { name }), {
      onclick: async () => {
        await removePrompts([id]);
        await this.list(prompt);
      },
    });
    const about = el("span", { class: "quiet small clip" }, text.replace(/\s+/g, " ").slice(0, 200));
    return el("li", {}, el("div", {}, el("b", { class: "clip", dir: "auto" }, name), about), edit, remove);
  }

  /** @param {Prompt} prompt */
  #undo(prompt) {
    const bring = async () => {
      await savePrompt(prompt);
      await this.list();
    };
    return el(
      "div",
      { class: "undo", role: "status" },
      el("span", { class: "clip" }, fill(texts.prompts.deleted, { name: prompt.name })),
      el("button", { type: "button", class: "button", onclick: bring }, texts.prompts.undo),
    );
  }

  /**
   * Show the fields of a prompt.
   *
   * @param {{ id?: string, name: string, text: string }} prompt
   * @param {boolean} [closes] whether the dialog closes afterwards
   */
  form(prompt, closes = false) {
    const name = el("input", { id: "prompt-name", maxlength: MAX_NAME_CHARS, autocomplete: "off", dir: "auto" });
    const text = el("textarea", { id: "prompt-text", rows: 8, dir: "auto", "aria-describedby": "prompt-help" });
    name.value = prompt.name;
    text.value = prompt.text;
    this.#isList = false;
    this.#refused = false;
    this.#isUnsaved = () => name.value !== prompt.name || text.value !== prompt.text;
    const alert = el("p", { class: "small wrong", role: "alert" });
    const leave = () => (closes ? this.#close() : this.list());
    const save = async (/** @type {Event} */ event) => {
      event.preventDefault();
      try {
        const saved = await savePrompt({ ...prompt, name: name.value, text: text.value }, prompt);
        this.#isUnsaved = () => false;
        await leave();
        announce(fill(texts.prompts.saved, { name: saved.name }));
        if (closes) this.#chat.report({ text: fill(texts.prompts.saved, { name: saved.name }), calm: true });
      } catch (error) {
        if (!(error instanceof PromptRefused)) throw error;
        alert.textContent = error.message;
        (name.value.trim() ? text : name).focus();
      }
    };
    const form = el(
      "form",
      { onsubmit: save },
      el("div", { class: "field" }, el("label", { for: "prompt-name" }, texts.prompts.name), name),
      el(
        "div",
        { class: "field" },
        el("label", { for: "prompt-text" }, texts.prompts.text),
        text,
        el(
          "p",
          { class: "quiet small", id: "prompt-help" },
          fill(texts.prompts.text_help, { placeholder: PLACEHOLDER }),
        ),
      ),
      alert,
      el(
        "p",
        { class: "buttons" },
        el("button", { type: "submit", class: "button primary" }, texts.prompts.save),
        el("button", { type: "button", class: "button", "data-cancel": true, onclick: leave }, texts.prompts.cancel),
      ),
    );
    const title = prompt.id ? texts.prompts.edit_title : texts.prompts.new_title;
    this.#inside.replaceChildren(el("h2", { id: "prompts-title" }, title), form);
    name.focus();
    name.select();
  }
}

/** @type {PromptDialog | null} */
let shown = null;

/** @param {Chat} chat */
async function open(chat) {
  await chat.joining; // what is saved before would not be sent to the server
  if (!shown) chat.on("settings", () => shown?.refresh());
  shown = new PromptDialog(chat);
  shown.show();
  return shown;
}

/**
 * Show all prompts of the visitor.
 *
 * @param {Chat} chat
 */
export async function managePrompts(chat) {
  await (await open(chat)).list();
}

/**
 * Offer to save a text as a prompt.
 *
 * @param {Chat} chat
 * @param {string} text
 */
export async function newPrompt(chat, text) {
  (await open(chat)).form({ name: titleOf(text), text }, true);
}
