// The keyboard shortcuts of the chat page; dialogs/help.js lists them.

import { isComposing } from "../shell/page.js";

/**
 * What the shortcuts do.
 *
 * @typedef {object} Commands
 * @property {() => void} search
 * @property {() => void} toggleSidebar
 * @property {() => void} help
 * @property {() => void} newChat
 * @property {() => void} chooseModel
 * @property {() => void} copyLast
 * @property {() => void} settings
 * @property {() => void} escape
 * @property {() => void} focusMessage
 */

const isDialogOpen = () => document.querySelector("dialog[open], :popover-open") !== null;

/** @param {EventTarget | null} target */
const isField = (target) =>
  target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;

/** @param {KeyboardEvent} event */
const hasModifier = ({ ctrlKey, metaKey, altKey }) => ctrlKey || metaKey || altKey;

/** Keep the page above the on-screen keyboard of phones that lay it over the page (iOS). */
function watchKeyboard() {
  const { visualViewport } = window;
  visualViewport?.addEventListener("resize", () => {
    const covered = innerHeight - visualViewport.height * visualViewport.scale > 80;
    document.body.style.height = covered ? `${visualViewport.height}px` : "";
    if (covered) scrollTo(0, 0);
  });
}

/**
 * Return what a key is called in the shortcuts. Letters of other scripts go by the key's place, and so do
 * marks: a German keyboard has "/" on Shift+7, and ";" above its comma.
 *
 * @param {{ key: string, code: string }} event
 */
function shortcutKey({ key, code }) {
  if (/^[a-z]$/i.test(key)) return key.toLowerCase();
  if (/^[,<;]$/.test(key) || (key === "?" && code === "KeyM") || code === "Comma") return ",";
  if (key === "/" || key === "?" || (code === "Slash" && key !== "-" && key !== "_")) return "/";
  const letter = /^Key([A-Z])$/.exec(code)?.[1];
  return letter && !/^[\x20-\x7e]$/.test(key) ? letter.toLowerCase() : key.toLowerCase();
}

/**
 * True for Esc that closes nothing: it comes from the page or the message box, and is not held from
 * closing something else.
 *
 * @param {KeyboardEvent} event
 */
function isFreeEscape({ target, repeat, defaultPrevented }) {
  const field = isField(target) && !(target instanceof Element && target.id === "message");
  return !field && !repeat && !defaultPrevented;
}

/**
 * Listen for the shortcuts.
 *
 * @param {Commands} commands
 */
export function listenToShortcuts(commands) {
  /** @type {Record<string, () => void>} */
  const byKey = {
    k: commands.search,
    b: commands.toggleSidebar,
    "/": commands.help,
    "shift+/": commands.help,
    "shift+o": commands.newChat,
    "shift+m": commands.chooseModel,
    "shift+c": commands.copyLast,
    "shift+,": commands.settings,
  };
  watchKeyboard();
  document.addEventListener("keydown", (event) => {
    if (isComposing(event) || isDialogOpen()) return;
    if (event.key === "Escape") {
      if (isFreeEscape(event)) commands.escape();
      return;
    }
    const key = shortcutKey(event);
    if (key === "/" && event.key !== "?" && !hasModifier(event) && !isField(event.target)) {
      event.preventDefault();
      commands.focusMessage();
      return;
    }
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const command = byKey[(event.shiftKey ? "shift+" : "") + key];
    if (!command) return;
    event.preventDefault();
    command();
  });
}
