// The line above the message box: what went wrong there, or for how long nothing can be sent. It says one thing
// at a time.

import { AWAY_EVENT, announce, el, fill, icon, iconButton, span, texts } from "../../shell/page.js";

/** @import { Action, Problem } from "../state/types.js" */

/**
 * Return the model that a limit is about; null: it is a limit of the visitor, whatever the model.
 *
 * @param {string | undefined} text of the error
 * @param {string} model
 */
export const limitedModel = (text, model) => (text === texts.problems.provider_limited ? model : null);

/** One problem with its action; with a wait it counts down, and then says that the wait is over. */
export class Alert {
  #root;
  #perform;
  #changed;
  /** @type {number | undefined} */
  #timer;
  /** The model that is waited for; null: another one would not help. @type {string | null} */
  #model = null;
  /** Seconds until something can be sent again. */
  wait = 0;

  /**
   * @param {HTMLElement} root
   * @param {(action: Action) => void} perform
   * @param {() => void} changed called when the wait begins or ends
   */
  constructor(root, perform, changed) {
    this.#root = root;
    this.#perform = perform;
    this.#changed = changed;
  }

  /** @param {Problem} problem */
  show({ text, wait, action, also, calm, until, away, model = null }) {
    if (away && document.documentElement.dataset.away !== undefined) return; // it is said already
    clearInterval(this.#timer);
    this.wait = wait ? Math.ceil(wait) : 0;
    this.#model = model;
    const countdown = el("span", { "aria-live": "off" });
    const words = text ? `${text} ` : "";
    /** @type {Element[]} */
    const parts = [icon(calm ? "check" : "circle-alert"), el("p", {}, words, countdown)];
    for (const one of [action, also]) {
      if (!one) continue;
      parts.push(el("button", { type: "button", class: "button", onclick: () => this.#perform(one) }, one.label));
    }
    if (this.wait) this.#count(countdown, text);
    else parts.push(iconButton("x", texts.composer.dismiss, { onclick: () => this.clear() }));
    this.#root.replaceChildren(...parts);
    this.#root.className = `problem ${calm ? "done" : text ? "bad" : "calm"}`;
    this.#root.hidden = false;
    if (away) document.addEventListener(AWAY_EVENT, () => parts[0].isConnected && this.clear(), { once: true });
    if (until) document.addEventListener(until, () => parts[0].isConnected && this.clear(), { once: true });
    this.#changed();
  }

  /**
   * Count down. Afterwards what was to be waited for is past: only that is said, where it was said why.
   *
   * @param {HTMLElement} countdown
   * @param {string} text
   */
  #count(countdown, text) {
    const end = Date.now() + this.wait * 1000;
    const show = () => {
      countdown.textContent = fill(texts.composer.wait, { time: span(this.wait) });
    };
    show();
    this.#timer = setInterval(() => {
      this.wait = Math.max(Math.ceil((end - Date.now()) / 1000), 0);
      if (this.wait) {
        show();
        return;
      }
      if (text) this.show({ text: texts.composer.wait_over, calm: true });
      else {
        this.clear();
        announce(texts.composer.wait_over);
      }
    }, 250);
  }

  /**
   * End a wait for a model that is not the one in use any more.
   *
   * @param {string | undefined} model the one in use
   */
  modelChanged(model) {
    if (!this.wait || !this.#model || this.#model === model) return;
    this.wait = 0;
    this.clear();
  }

  /** Remove the alert, unless it still counts down. */
  clear() {
    if (this.wait) return;
    clearInterval(this.#timer);
    this.#root.hidden = true;
    this.#root.replaceChildren();
    this.#changed();
  }
}
