// The head of the page: title, model, context and cost; the welcome of a new chat; the sidebar and its button.

import { closest, el, fill, icon, money, part, short, texts } from "../shell/page.js";
import { asSentence, standingWords } from "./limits.js";
import { usedTokens } from "./state/records.js";

/** @import { Chat } from "./state/chat.js" */
/** @import { Model } from "./state/types.js" */

const MINUTE_MS = 60_000;
const SITE = part('meta[name="application-name"]', HTMLMetaElement).content;

/**
 * What the header asks the page for.
 *
 * @typedef {object} HeaderPage
 * @property {() => void} chooseModel
 * @property {() => void} newChat
 * @property {(id: string) => void} setModel
 * @property {(prompt: string) => void} fill
 */

/** Shows the state of a chat in the template's elements. */
export class Header {
  #chat;
  #title = part("#title", HTMLElement);
  #model = part("#model", HTMLElement);
  #modelName = part("#model-name", HTMLElement);
  #gauge = part("#gauge", HTMLElement);
  #gaugeBar = part("#gauge-bar", HTMLMeterElement);
  #gaugeText = part("#gauge-text", HTMLElement);
  #total = part("#total", HTMLElement);
  #main = part("#main", HTMLElement);
  #welcome = part("#welcome", HTMLElement);
  #suggestions = part("#suggestions", HTMLElement);
  #standing = part("#standing", HTMLElement);
  /** @type {number | undefined} */
  #minute;
  /** What says that a script answers; null: no model is scripted. */
  #demo = document.getElementById("demo");

  /**
   * @param {Chat} chat
   * @param {HeaderPage} page
   */
  constructor(chat, page) {
    this.#chat = chat;
    this.#model.addEventListener("click", () => page.chooseModel());
    part("#new-chat", HTMLElement).addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own
      event.preventDefault();
      page.newChat();
    });
    this.#suggestions.addEventListener("click", (event) => {
      const { prompt, model, models } = closest(event, "button")?.dataset ?? {};
      if (prompt) page.fill(prompt);
      else if (model) page.setModel(model);
      else if (models !== undefined) page.chooseModel();
    });
    chat.on("messages", (path) => {
      const fresh = path.length === 0;
      this.#main.classList.toggle("fresh", fresh);
      this.#welcome.hidden = !fresh;
      this.#suggestions.hidden = !fresh;
      this.#showTitle();
    });
    chat.on("record", (record) => record === chat.current?.record && this.#showTitle());
    chat.on("status", () => this.#showModel());
    chat.on("stats", () => this.#showGauge());
    chat.on("visitor", () => this.#showVisitor());
    this.#showVisitor();
  }

  #showTitle() {
    const title = this.#chat.current?.record.title;
    this.#title.textContent = title || texts.chat.new_chat;
    document.title = title ? `${title} – ${SITE}` : SITE;
  }

  #showModel() {
    const id = this.#chat.current?.record.model ?? "";
    const name = this.#chat.modelName(id) || texts.chat.no_model;
    this.#modelName.textContent = name;
    this.#model.setAttribute("aria-label", fill(texts.chat.model, { name }));
    /** @type {NodeListOf<HTMLElement>} */
    const cards = this.#suggestions.querySelectorAll("[data-model]");
    const last = [...cards].at(-1);
    const { model } = this.#chat;
    if (last && model && ![...cards].some((card) => card.dataset.model === id)) fillCard(last, model);
    for (const card of cards) {
      card.setAttribute("aria-pressed", String(card.getAttribute("data-model") === id));
    }
    if (this.#demo) this.#demo.hidden = !model?.demo;
    this.#showGauge();
  }

  #showGauge() {
    const { current, model } = this.#chat;
    const used = current ? usedTokens(current.path) : 0;
    this.#gauge.hidden = !model || used === 0;
    if (!model) return;
    this.#gaugeBar.value = Math.min(used / model.context_window, 1);
    this.#gaugeText.textContent = `${short(used)} / ${short(model.context_window)}`;
    const cost = (this.#chat.seesCosts && current?.cost()) || 0;
    this.#total.textContent = cost ? money(cost) : "";
  }

  /** A limit per minute is not what it was any more; other devices may have used it meanwhile. */
  #minuteIsOver() {
    this.#chat.setLimits({ remaining: { ...this.#chat.visitor.remaining, requests: null } });
  }

  #showVisitor() {
    const { ended, visitor } = this.#chat;
    clearTimeout(this.#minute);
    if (visitor.remaining?.requests) this.#minute = setTimeout(() => this.#minuteIsOver(), MINUTE_MS);
    // Once the session has ended nothing is left of any limit.
    const { text, low } = ended ? { text: "", low: false } : standingWords(visitor);
    const signIn = visitor.kind === "guest" && !ended ? el("a", { href: "/login" }, texts.chat.sign_in) : null;
    const isNamed = visitor.kind === "key" && text;
    const words = isNamed ? fill(texts.chat.key_left, { name: visitor.name, left: text }) : asSentence(text);
    this.#standing.replaceChildren(low ? icon("triangle-alert") : "", words, signIn ? " · " : "", signIn ?? "");
    this.#standing.classList.toggle("warn", low);
  }
}

/** Where the bar has room for little; the same words are in frame.css. */
const small = matchMedia("(max-width: 40rem), (max-height: 30rem)");

/**
 * Put the buttons of the chat into the menu of the bar where the bar is small, with their words; otherwise back
 * into the head.
 */
export function placeChatActs() {
  const acts = [part("#temporary", HTMLElement), part("#settings", HTMLElement)];
  const menu = part("#menu", HTMLElement);
  const inMenu = part("#chat-acts", HTMLElement);
  // Before the button does its work: a dialog then gives the focus back to what is still shown.
  inMenu.addEventListener("click", () => menu.hidePopover(), { capture: true });
  const place = () => (small.matches ? inMenu.append(...acts) : part("#model", HTMLElement).after(...acts));
  small.addEventListener("change", place);
  place();
}

/**
 * Show a model on a card in the row of the first screen: the one in use may not be among the first of the catalog.
 *
 * @param {HTMLElement} card
 * @param {Model} model
 */
function fillCard(card, { id, name, maker, best_at, health }) {
  card.dataset.model = id;
  const bad = health?.mark === "bad" ? health : null;
  const about = bad?.words ?? [maker, best_at].filter(Boolean).join(" · ");
  card.replaceChildren(el("b", {}, name), " ", el("span", bad ? { class: "health bad" } : {}, about));
}

const narrow = matchMedia("(max-width: 56rem)");

/** The sidebar. On small screens it is a sheet over the page, which the browser's Back closes. */
export class SideSheet {
  #root = part("#sidebar", HTMLElement);
  #button = part("#side-switch", HTMLButtonElement);
  #main = part("#main", HTMLElement);
  /** True while the browser's history has an entry for the sheet. */
  #hasEntry = false;
  #ignored = false;

  constructor() {
    this.#button.addEventListener("click", () => this.toggle());
    part("#side-back", HTMLElement).addEventListener("click", () => this.toggle(false));
    narrow.addEventListener("change", () => this.#showState());
    this.#showState();
  }

  /** True if the sidebar covers the page. */
  get isSheet() {
    return narrow.matches && document.body.dataset.side === "open";
  }

  get #isShown() {
    const { side } = document.body.dataset;
    return side ? side === "open" : !narrow.matches;
  }

  /** @param {boolean} [open] */
  toggle(open) {
    const shown = open ?? !this.#isShown;
    document.body.dataset.side = shown ? "open" : "closed";
    this.#showState();
    if (shown) {
      if (narrow.matches && !this.#hasEntry) history.pushState({ sheet: true }, "");
      this.#hasEntry ||= narrow.matches;
      const first = this.#root.querySelector("a, button, input");
      if (first instanceof HTMLElement) first.focus();
      return;
    }
    if (this.#root.contains(document.activeElement)) this.#button.focus();
    if (!this.#hasEntry) return;
    this.#hasEntry = false;
    this.#ignored = true;
    history.back();
  }

  /** Close the sheet, where the sidebar is one. */
  closeSheet() {
    if (this.isSheet) this.toggle(false);
  }

  /**
   * Add an address to the browser's history, in the place of the sheet's entry where there is one.
   *
   * @param {string} path
   */
  push(path) {
    if (this.#hasEntry) history.replaceState(null, "", path);
    else history.pushState(null, "", path);
    this.#hasEntry = false;
  }

  /** Return true if a step in the browser's history was about the sheet only. */
  popped() {
    if (this.#ignored) {
      this.#ignored = false;
      return true;
    }
    // A step between the sheet's entry and that of a dialog over it leads back to the sheet.
    if (!this.#hasEntry || history.state?.sheet) return false;
    this.#hasEntry = false;
    this.closeSheet();
    return true;
  }

  #showState() {
    this.#button.setAttribute("aria-expanded", String(this.#isShown));
    this.#main.inert = this.isSheet;
  }
}
