// The list of keyboard shortcuts.

import { el } from "../../shell/page.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const SHORTCUTS = [
  ["Send", "Enter"],
  ["New line", "Shift+Enter"],
  ["Always send", "Ctrl+Enter"],
  ["Stop the answer", "Esc"],
  ["Edit your last message", "↑ in the empty box"],
  ["New chat", "Ctrl+Shift+O"],
  ["Search conversations", "Ctrl+K"],
  ["Choose a model", "Ctrl+Shift+M"],
  ["Chat settings", "Ctrl+Shift+,"],
  ["Copy the last answer", "Ctrl+Shift+C"],
  ["Show or hide the conversations", "Ctrl+B"],
  ["Go to the message box", "/"],
  ["Show this list", "Ctrl+/"],
];

/** Show the shortcuts in a dialog. */
export function showHelp() {
  const rows = SHORTCUTS.map(([what, keys]) =>
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
