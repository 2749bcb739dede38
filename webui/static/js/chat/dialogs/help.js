// The list of keyboard shortcuts.

import { showDialog } from "../../shell/dialog.js";
import { el, texts } from "../../shell/page.js";
import { enterSends } from "../composer/composer.js";

/** @import { EnterKey } from "../state/types.js" */

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const CTRL = MAC ? "⌘" : texts.dialogs.ctrl;
/** @type {[string, string][]} */
const SHORTCUTS = [
  [texts.dialogs.always_send, `${CTRL}+${texts.dialogs.enter}`],
  [texts.dialogs.stop, "Esc"],
  [texts.dialogs.edit_last, texts.dialogs.in_empty_box],
  [texts.dialogs.leave_edit, "Esc"],
  [texts.dialogs.new_chat, `${CTRL}+${texts.dialogs.shift}+O`],
  [texts.dialogs.search_chats, `${CTRL}+K`],
  [texts.dialogs.choose_model, `${CTRL}+${texts.dialogs.shift}+M`],
  [texts.dialogs.settings, `${CTRL}+${texts.dialogs.shift}+,`],
  [texts.dialogs.copy_last, `${CTRL}+${texts.dialogs.shift}+C`],
  [texts.dialogs.toggle_chats, `${CTRL}+B`],
  [texts.dialogs.to_message, "/"],
  [texts.dialogs.show_list, `${CTRL}+/`],
];

/**
 * Return what Enter does by the settings.
 *
 * @param {EnterKey} enterKey
 * @returns {[string, string][]}
 */
function enterShortcuts(enterKey) {
  if (!enterSends(enterKey)) return [[texts.dialogs.new_line, texts.dialogs.enter]];
  return [
    [texts.dialogs.send, texts.dialogs.enter],
    [texts.dialogs.new_line, `${texts.dialogs.shift}+${texts.dialogs.enter}`],
  ];
}

/** @returns {[string, string]} */
const promptsKey = () => [texts.prompts.shortcut, texts.prompts.shortcut_key];

/**
 * Show the shortcuts in a dialog.
 *
 * @param {EnterKey} enterKey
 */
export function showHelp(enterKey) {
  const rows = [...enterShortcuts(enterKey), ...SHORTCUTS, promptsKey()].map(([what, keys]) =>
    el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, el("kbd", {}, keys))),
  );
  const dialog = el(
    "dialog",
    { class: "help", "aria-label": texts.dialogs.shortcuts },
    el("h2", {}, texts.dialogs.shortcuts),
    el("table", {}, el("tbody", {}, ...rows)),
  );
  showDialog(dialog);
}
