// The head of the page: title, model, context and cost; and the welcome of a new chat.

import { closest, money, part, short } from "../shell/page.js";
import { visitorWords } from "./limits.js";

/** @import { Chat } from "./state/chat.js" */

const SITE = part('meta[name="application-name"]', HTMLMetaElement).content;

/**
 * What the header asks the page for.
 *
 * @typedef {object} HeaderPage
 * @property {() => void} chooseModel
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
  #welcome = part("#welcome", HTMLElement);
  #visitor = part("#visitor", HTMLElement);

  /**
   * @param {Chat} chat
   * @param {HeaderPage} page
   */
  constructor(chat, page) {
    this.#chat = chat;
    this.#model.addEventListener("click", () => page.chooseModel());
    this.#welcome.addEventListener("click", (event) => {
      const { prompt, model } = closest(event, "button")?.dataset ?? {};
      if (prompt) page.fill(prompt);
      else if (model) page.setModel(model);
    });
    chat.on("messages", (path) => {
      this.#welcome.hidden = path.length > 0;
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
    for (const card of this.#welcome.querySelectorAll("[data-model]")) {
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
    if (visitor.kind !== "nobody") this.#visitor.textContent = visitorWords(visitor); // else as in the template
  }
}
