// Two answers to one question, side by side; on narrow pages one at a time.

import { el, texts } from "../../shell/page.js";

/**
 * Return an element for two answers, which go to its end in this order.
 *
 * @param {string[]} names of their models
 */
export function newPair(names) {
  const root = el("div", { class: "pair", "data-shown": names.length - 1 });
  /** @param {number} shown */
  const show = (shown) => {
    root.dataset.shown = String(shown);
    for (const [n, button] of buttons.entries()) button.setAttribute("aria-pressed", String(n === shown));
  };
  const buttons = names.map((name, n) =>
    el("button", { type: "button", class: "button", onclick: () => show(n) }, name),
  );
  show(names.length - 1);
  root.append(el("div", { class: "pair-switch", role: "group", "aria-label": texts.transcript.answers }, ...buttons));
  return root;
}
