// The list of prompts at the message box: opened by "/" at its beginning, or by the button.
//
// The box keeps the focus, and names the option that is chosen (aria-activedescendant). It stays a text
// box: the role "combobox" is not allowed on a textarea (ARIA in HTML).

import { announce, el, fill, icon, isComposing, part, pluralText, texts } from "../../shell/page.js";
import { enterSends } from "../composer/composer.js";
import { fold, wordsOf } from "../search_words.js";
import { ownPrompts } from "./prompt_store.js";

/** @import { Chat } from "../state/chat.js" */

/**
 * An entry of the list: a prompt, or something else that can be done (with `icon`).
 *
 * @typedef {object} Option
 * @property {string} name
 * @property {string} [text]
 * @property {boolean} [shared] whether it is the owner's
 * @property {string} [icon]
 * @property {() => void} run
 */

const GAP_PX = 6;
const MAX_HEIGHT_PX = 340;
const ID = "prompt-options";
/** What is typed to look for a prompt: a second "/" is a path. */
const QUERY = /^\/([^/\n]*)$/;
const FIELD = /\{\{([^{}\n]{1,60})\}\}/g;
const touch = matchMedia("(pointer: coarse)");

/**
 * Return the options whose names have all words, those that begin with them first.
 *
 * @param {Option[]} options
 * @param {string} query
 */
export function matching(options, query) {
  const wanted = fold(query).trim();
  const words = wordsOf(query);
  const found = options.filter(({ name }) => words.every((word) => fold(name).includes(word)));
  /** @param {Option} option */
  const begins = ({ name }) => Number(fold(name).startsWith(wanted));
  return found.sort((a, b) => begins(b) - begins(a));
}

/** Shows the prompts of the visitor and the owner's above the box. */
export class PromptList {
  #chat;
  #shared;
  #text;
  #box;
  #button;
  #list = el("ul", { role: "listbox", id: ID, "aria-label": texts.prompts.prompts });
  #root = el("div", { popover: "manual", class: "prompt-list" }, this.#list);
  /** @type {Option[]} */
  #options = [];
  #active = -1;
  /** Whether it was opened by the button: then it is not about what is typed. */
  #byButton = false;
  /** Whether what begins with "/" is a text: the list was closed with Esc. */
  #dismissed = false;
  #inserting = false;
  /** Whether the text has places to fill in. */
  #hasFields = false;
  #opening = 0;
  /** Whether the prompts are being read: Enter waits for them. */
  #reading = false;
  /** Whether Enter was pressed meanwhile. */
  #entered = false;

  /**
   * @param {HTMLFormElement} form
   * @param {Chat} chat
   * @param {{ name: string, text: string }[]} shared
   */
  constructor(form, chat, shared) {
    this.#chat = chat;
    this.#shared = shared;
    this.#text = part("textarea", HTMLTextAreaElement, form);
    this.#box = part(".box", HTMLElement, form);
    this.#button = part('[data-part="prompts"]', HTMLElement, form);
    form.append(this.#root);
    const text = this.#text;
    text.setAttribute("aria-autocomplete", "list");
    text.addEventListener("input", () => {
      this.#entered = false; // it goes on
      this.#typed();
    });
    text.addEventListener("blur", () => this.close());
    // Before the box itself hears it: Enter would send.
    // The focus is on the button where the screen is touched.
    const isHeard = (/** @type {KeyboardEvent} */ { target }) =>
      target === text || (target === this.#button && this.#isOpen);
    form.addEventListener("keydown", (event) => isHeard(event) && this.#pressed(event), true);
    // The box keeps the focus, so that the keyboard of a phone stays as it is.
    for (const node of [this.#root, this.#button])
      node.addEventListener("pointerdown", (event) => event.preventDefault());
    this.#root.addEventListener("mousedown", (event) => event.preventDefault());
    this.#button.addEventListener("mousedown", (event) => event.preventDefault());
    this.#list.addEventListener("click", ({ target }) => {
      const option = target instanceof Element ? target.closest('[role="option"]') : null;
      if (option) this.#choose([...this.#list.children].indexOf(option));
    });
    document.addEventListener("pointerdown", ({ target }) => {
      if (this.#isOpen && target instanceof Node && !form.contains(target)) this.close();
    });
    for (const event of /** @type {const} */ (["opened", "leaving"])) chat.on(event, () => this.close());
    chat.on("settings", () => this.#changedElsewhere());
    addEventListener("resize", () => this.#isOpen && this.#place());
  }

  get #isOpen() {
    return this.#root.matches(":popover-open");
  }

  /** Open the list, or close it: the button was pressed. */
  async toggle() {
    if (this.#isOpen) {
      this.close();
      return;
    }
    if (!touch.matches) this.#text.focus();
    await this.#showAll();
  }

  async #showAll() {
    this.#byButton = true;
    const typed = this.#text.value.trim();
    const more = typed ? [this.#saveOption(typed)] : [];
    const prompts = await this.#prompts();
    this.#entered = false; // nothing could be chosen yet
    this.#show([...prompts, ...more, this.#manageOption()], 0);
  }

  async #changedElsewhere() {
    if (!this.#isOpen) return;
    if (this.#byButton) await this.#showAll();
    else await this.#typed();
  }

  /**
   * Show what fits to what is typed, if it begins with "/".
   *
   * @param {boolean} entered whether Enter was pressed before there was a list
   */
  async typed(entered) {
    this.#entered = entered;
    await this.#typed();
    if (this.#entered) this.#enter(); // it begins with "/" no more
  }

  async #typed() {
    if (this.#inserting) return;
    const query = QUERY.exec(this.#text.value)?.[1];
    if (query === undefined) {
      this.#dismissed = false;
      this.close();
      return;
    }
    if (this.#dismissed) return;
    this.#opening += 1;
    const opening = this.#opening;
    const prompts = await this.#prompts();
    if (opening !== this.#opening || QUERY.exec(this.#text.value)?.[1] !== query) return;
    const found = matching(prompts, query);
    this.#byButton = false;
    if (found.length) this.#show(query ? found : [...found, this.#manageOption()], 0);
    else if (query) this.close();
    else this.#show([this.#manageOption()], -1); // Enter sends the "/"
    if (this.#entered) this.#enter();
  }

  /** Do what Enter does now: it was pressed while the prompts were being read. */
  #enter() {
    this.#entered = false;
    if (this.#isOpen && this.#active >= 0) this.#choose(this.#active);
    else if (enterSends(this.#chat.enterKey)) this.#text.form?.requestSubmit();
    else this.#replace("\n", false);
  }

  /** @returns {Promise<Option[]>} */
  async #prompts() {
    this.#reading = true;
    const own = await ownPrompts().catch(() => []);
    this.#reading = false;
    const shared = this.#shared.map((one) => ({ ...one, shared: true }));
    return [...own, ...shared].map((one) => ({ ...one, run: () => this.#insert(one.text) }));
  }

  /**
   * @param {string} text
   * @returns {Option}
   */
  #saveOption(text) {
    const run = async () => (await this.#importDialog()).newPrompt(this.#chat, text);
    return { name: texts.prompts.save_box, icon: "plus", run };
  }

  /** @returns {Option} */
  #manageOption() {
    const run = async () => {
      if (this.#text.value === "/") this.#replace("", true);
      (await this.#importDialog()).managePrompts(this.#chat);
    };
    return { name: texts.prompts.manage, icon: "settings-2", run };
  }

  #importDialog() {
    return this.#chat.load(() => import("./prompt_dialog.js"));
  }

  /** Select the first place to fill in: a prompt was put into the box. */
  fillIn() {
    this.#hasFields = true;
    this.#selectField(0);
  }

  // What is shown

  /**
   * @param {Option[]} options
   * @param {number} active
   */
  #show(options, active) {
    this.#options = options;
    this.#list.replaceChildren(...options.map((option, at) => optionNode(option, at)));
    if (!this.#isOpen) this.#root.showPopover();
    this.#text.setAttribute("aria-controls", ID);
    this.#button.setAttribute("aria-expanded", "true");
    this.#place();
    this.#activate(active);
    announce(pluralText(texts.prompts.found, options.filter((one) => !one.icon).length));
  }

  #place() {
    const { left, top, bottom, width } = this.#box.getBoundingClientRect();
    const above = top - GAP_PX;
    const below = (visualViewport?.height ?? innerHeight) - bottom - GAP_PX;
    const isAbove = above >= below || above >= MAX_HEIGHT_PX;
    const { style } = this.#root;
    style.left = `${left}px`;
    style.width = `${width}px`;
    style.maxHeight = `${Math.min(MAX_HEIGHT_PX, (isAbove ? above : below) - GAP_PX)}px`;
    style.top = isAbove ? "auto" : `${bottom + GAP_PX}px`;
    style.bottom = isAbove ? `${innerHeight - top + GAP_PX}px` : "auto";
  }

  /** @param {number} at */
  #activate(at) {
    this.#active = at;
    for (const [n, node] of [...this.#list.children].entries()) node.setAttribute("aria-selected", String(n === at));
    const node = this.#list.children[at];
    if (node) {
      this.#text.setAttribute("aria-activedescendant", node.id);
      node.scrollIntoView({ block: "nearest" });
    } else this.#text.removeAttribute("aria-activedescendant");
  }

  /** Close the list. */
  close() {
    this.#opening += 1;
    if (!this.#isOpen) return;
    this.#root.hidePopover();
    this.#text.removeAttribute("aria-activedescendant");
    this.#text.removeAttribute("aria-controls");
    this.#button.removeAttribute("aria-expanded");
  }

  // What is done

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (isComposing(event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (!this.#text.value) this.#dismissed = false; // a message was sent
    if (event.key === "Enter" && this.#reading) {
      this.#entered = true;
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (!this.#isOpen) {
      if (event.key === "Tab" && this.#selectField(this.#text.selectionEnd)) event.preventDefault();
      return;
    }
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    const { length } = this.#options;
    if (event.key in steps) {
      const step = steps[/** @type {keyof typeof steps} */ (event.key)];
      const from = this.#active < 0 && step < 0 ? length : this.#active;
      this.#activate((from + step + length) % length);
    } else if (event.key === "Escape") {
      this.#dismissed = !this.#byButton;
      this.close();
    } else if ((event.key === "Enter" || (event.key === "Tab" && !this.#byButton)) && this.#active >= 0) {
      this.#choose(this.#active);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} at */
  #choose(at) {
    const option = this.#options[at];
    this.close();
    option?.run();
  }

  /** @param {string} inserted */
  #insert(inserted) {
    const { value, selectionStart } = this.#text;
    const start = this.#byButton && value ? selectionStart : 0;
    this.#replace(inserted, !this.#byButton || !value);
    this.#text.focus();
    this.#hasFields = inserted.search(FIELD) >= 0;
    this.#selectField(start);
  }

  /**
   * Put a text at the caret, or in the place of everything, as if it had been typed.
   *
   * @param {string} inserted
   * @param {boolean} everything
   */
  #replace(inserted, everything) {
    const text = this.#text;
    const [start, end] = everything ? [0, text.value.length] : [text.selectionStart, text.selectionEnd];
    text.setRangeText(inserted, start, end, "end");
    this.#inserting = true; // it may begin with "/"
    text.dispatchEvent(new Event("input", { bubbles: true }));
    this.#inserting = false;
  }

  /**
   * Select the next place to fill in. Returns false if there is none.
   *
   * @param {number} from
   */
  #selectField(from) {
    if (!this.#hasFields) return false;
    for (const found of this.#text.value.matchAll(FIELD)) {
      if (found.index < from) continue;
      this.#text.setSelectionRange(found.index, found.index + found[0].length);
      announce(fill(texts.prompts.fill_in, { name: found[1] }));
      return true;
    }
    this.#hasFields = false;
    return false;
  }
}

/**
 * @param {Option} option
 * @param {number} at
 */
function optionNode({ name, text, shared, icon: mark }, at) {
  const about = text ? el("span", { class: "quiet small clip" }, text.replace(/\s+/g, " ").slice(0, 200)) : null;
  return el(
    "li",
    { role: "option", id: `${ID}-${at}`, class: mark ? "command" : null, "aria-selected": "false" },
    mark ? icon(mark) : null,
    el("b", { class: "clip", dir: "auto" }, name),
    shared ? el("span", { class: "badge" }, texts.prompts.shared) : null,
    about,
  );
}
