// The list of keyboard shortcuts.

import { el } from "../../shell/page.js";

/** @import { EnterKey } from "../state/types.js" */

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
/** @type {[string, string][]} */
const SHORTCUTS = [
  ["Always send", "Ctrl+Enter"],
  ["Stop the answer", "Esc"],
  ["Edit your last message", "↑ in the empty box"],
  ["New chat", "Ctrl+Shift+O"],
  ["Search conversations", "Ctrl+K"],
  ["Choose a model", "Ctrl+Shift+M"],
  ["Settings", "Ctrl+Shift+,"],
  ["Copy the last answer", "Ctrl+Shift+C"],
  ["Show or hide the conversations", "Ctrl+B"],
  ["Go to the message box", "/"],
  ["Show this list", "Ctrl+/"],
];

/**
 * Return what Enter does by the settings.
 *
 * @param {EnterKey} enterKey
 * @returns {[string, string][]}
 */
function enterShortcuts(enterKey) {
  const sends = enterKey === "auto" ? !matchMedia("(pointer: coarse)").matches : enterKey === "send";
  if (!sends) return [["New line", "Enter"]];
  return [
    ["Send", "Enter"],
    ["New line", "Shift+Enter"],
  ];
}

/**
 * Show the shortcuts in a dialog.
 *
 * @param {EnterKey} enterKey
 */
export function showHelp(enterKey) {
  const rows = [...enterShortcuts(enterKey), ...SHORTCUTS].map(([what, keys]) =>
    el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, el("kbd", {}, MAC ? keys.replace("Ctrl", "⌘") : keys))),
  );
  const dialog = el(
    "dialog",
    { class: "help", "aria-label": "Keyboard shortcuts", onclose: () => dialog.remove() },
    el("h2", {}, "Keyboard shortcuts"),
    el("table", {}, el("tbody", {}, ...rows)),
    el(
      "p",
      { class: "buttons" },
      el("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Close"),
    ),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
