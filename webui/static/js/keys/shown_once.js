// What a page shows once: a key, the link of an invitation, a list of either. Leaving asks once, until
// it was copied or saved.
//
// A link, a button that closes and a form are asked about in words on the page; whatever else ends a
// page (a reload, a closed tab) by the browser's own question.

import { closest, el, texts } from "../shell/page.js";

/** @type {Record<string, string>} the question, by what is shown */
const WORDS = { key: texts.once.key, link: texts.once.link, list: texts.once.list };
/** @type {HTMLElement | null} the part with what was neither copied nor saved yet */
let unsaved = null;
let asked = false;

/**
 * Ask before this part of the page is left. `data-once` says what it shows: key, link or list.
 *
 * @param {HTMLElement} shown
 */
export function showOnce(shown) {
  unsaved = shown;
  asked = false;
}

/** Leave without a question from now on: it was copied or saved, or it is gone. */
export function release() {
  unsaved = null;
}

/** Return true if the page may be left; else ask, and allow it the next time. */
export function mayLeave() {
  if (!unsaved?.isConnected || asked) {
    release();
    return true;
  }
  asked = true;
  unsaved.querySelector(":scope > .alert")?.remove();
  const alert = el("p", { class: "alert", role: "alert" }, WORDS[unsaved.dataset.once ?? "key"]);
  unsaved.prepend(alert);
  alert.scrollIntoView({ block: "nearest" });
  /** @type {HTMLElement | null} */
  const button = unsaved.querySelector("[data-copy], [data-copy-all]");
  button?.focus({ preventScroll: true });
  return false;
}

/** @param {Event} event */
function hold(event) {
  if (mayLeave()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

addEventListener(
  "click",
  (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const control = closest(event, 'a[href]:not([href^="#"], [target], [download]), [data-close]');
    if (control) hold(event);
  },
  { capture: true },
);
addEventListener("submit", hold, { capture: true });
addEventListener("beforeunload", (event) => {
  if (unsaved?.isConnected) event.preventDefault();
});
