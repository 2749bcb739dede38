// The head of the page: title, model, context and cost; and the welcome of a new chat.

import { closest, el, icon, money, part, short } from "../shell/page.js";
import { standingWords } from "./limits.js";

/** @import { Chat } from "./state/chat.js" */

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
    this.#title.textContent = title || "New chat";
    document.title = title ? `${title} – ${SITE}` : SITE;
  }

  #showModel() {
    const id = this.#chat.current?.record.model ?? "";
    const name = this.#chat.modelName(id) || "No model";
    this.#modelName.textContent = name;
    this.#model.setAttribute("aria-label", `Model: ${name}`);
    for (const card of this.#suggestions.querySelectorAll("[data-model]")) {
      card.setAttribute("aria-pressed", String(card.getAttribute("data-model") === id));
    }
    this.#showGauge();
  }

  #showGauge() {
    const { current, model } = this.#chat;
    const used = current?.usedTokens() ?? 0;
    this.#gauge.hidden = !model || used === 0;
    if (!model) return;
    this.#gaugeBar.value = Math.min(used / model.context_window, 1);
    this.#gaugeText.textContent = `${short(used)} / ${short(model.context_window)}`;
    const cost = current?.cost() ?? 0;
    this.#total.textContent = cost ? money(cost) : "";
  }

  #showVisitor() {
    const { visitor } = this.#chat;
    const { text, low } = standingWords(visitor);
    const signIn = visitor.kind === "guest" ? el("a", { href: "/login" }, "Sign in") : null;
    const name = visitor.kind === "key" && text ? `${visitor.name}: ` : "";
    this.#standing.replaceChildren(low ? icon("triangle-alert") : "", name + text, signIn ? " · " : "", signIn ?? "");
    this.#standing.classList.toggle("warn", low);
  }
}
