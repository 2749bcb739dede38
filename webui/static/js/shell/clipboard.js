// Copying text to the clipboard, with a word that it is done.

import { showDialog } from "./dialog.js";
import { announce, el, iconPath, texts } from "./page.js";

const COPIED_MS = 1600;

/**
 * Put text on the clipboard. Returns false where the browser does not allow it (plain http, mostly).
 *
 * Safari allows it only within the event of a click: a text that has to come first is passed as a promise.
 *
 * @param {string | Promise<string>} text
 */
export async function copyText(text) {
  try {
    if (typeof text === "string") await navigator.clipboard.writeText(text);
    else await navigator.clipboard.write([new ClipboardItem({ "text/plain": text.then(plainBlob) })]);
    return true;
  } catch {
    // Not a secure context, or not allowed: the old way needs a selection.
  }
  const area = el("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  area.value = await text;
  (focused?.closest("dialog") ?? document.body).append(area);
  area.focus();
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

/**
 * Copy text and confirm it on the button; where the browser refuses, show the text ready for Ctrl+C.
 *
 * @param {HTMLElement} button
 * @param {string | Promise<string>} text
 */
export async function copyFrom(button, text) {
  if (await copyText(text)) confirmCopied(button);
  else showForCopy(await text);
}

/** @param {string} text */
const plainBlob = (text) => new Blob([text], { type: "text/plain" });

/**
 * Show on a button that its text was copied.
 *
 * @param {HTMLElement} button
 */
export function confirmCopied(button) {
  if (button.dataset.copied) return;
  const label = button.getAttribute("aria-label");
  const use = button.querySelector("use");
  const path = use?.getAttribute("href") ?? "";
  const words = button.querySelector("span");
  const wordsBefore = words?.textContent ?? "";
  button.dataset.copied = "true";
  if (label) button.setAttribute("aria-label", texts.page.copied);
  if (words) words.textContent = texts.page.copied;
  use?.setAttribute("href", iconPath("check"));
  announce(texts.page.copied);
  setTimeout(() => {
    if (label) button.setAttribute("aria-label", label);
    if (words) words.textContent = wordsBefore;
    use?.setAttribute("href", path);
    delete button.dataset.copied;
  }, COPIED_MS);
}

/**
 * Show text in a dialog, selected.
 *
 * @param {string} text
 */
function showForCopy(text) {
  const area = el("textarea", { rows: "8", readonly: true, "aria-label": texts.page.text_to_copy });
  area.value = text;
  const dialog = el("dialog", { "aria-label": texts.page.copy }, el("p", {}, texts.page.cannot_copy), area);
  showDialog(dialog);
  area.focus();
  area.select();
}
