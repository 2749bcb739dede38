// The menu of a conversation in the list.

import { texts } from "../../shell/page.js";
import { openMenu } from "../menu.js";

/** @import { MenuItem } from "../menu.js" */
/** @import { ConversationList } from "./list.js" */
/** @import { OpenMenu } from "./list_entry.js" */

/**
 * What the menu needs of the list's view.
 *
 * @typedef {object} MenuOwner
 * @property {ConversationList} list
 * @property {boolean} shares whether read-only links may be made
 * @property {(id: string) => void} rename
 * @property {() => void} closed
 */

/**
 * Show the menu of a conversation at its button.
 *
 * @param {OpenMenu} menu
 * @param {MenuOwner} owner
 */
export function showListMenu({ one, button }, { list, shares, rename, closed }) {
  /** @type {MenuItem[]} */
  const items = [
    { icon: "pencil", label: texts.sidebar.rename, run: () => rename(one.id) },
    {
      icon: one.pinned ? "pin-off" : "pin",
      label: one.pinned ? texts.sidebar.unpin : texts.sidebar.pin,
      run: () => list.pin(one),
    },
  ];
  if (shares) items.push({ icon: "link", label: texts.turns.share_link, run: () => list.share(one) });
  items.push(
    { icon: "download", label: texts.sidebar.export_json, run: () => list.exportOne(one, "json") },
    { icon: "file-text", label: texts.sidebar.export_markdown, run: () => list.exportOne(one, "markdown") },
    { icon: "trash-2", label: texts.turns.delete, run: () => list.remove(one) },
  );
  // The row moves away from under its menu.
  openMenu(button, texts.sidebar.conversation, items, { scroller: button.closest("#sidebar"), closed });
}

/**
 * Show the menu of all conversations at its button.
 *
 * @param {HTMLElement} button
 * @param {ConversationList} list
 * @param {{ shares: boolean, isEmpty: boolean }} place `isEmpty`: there is none
 */
export function showAllMenu(button, list, { shares, isEmpty }) {
  /** @type {MenuItem[]} */
  const items = [
    { icon: "download", label: texts.sidebar.export_all, run: () => list.exportAll() },
    { icon: "upload", label: texts.sidebar.import, run: () => list.importFile() },
  ];
  if (shares) items.push({ icon: "link", label: texts.sidebar.shared_links, run: () => list.share(null) });
  // Without a keyboard there is nothing to press.
  if (!matchMedia("(hover: none)").matches) {
    items.push({ icon: "keyboard", label: texts.sidebar.shortcuts, run: () => list.help() });
  }
  if (!isEmpty) items.push({ icon: "trash-2", label: texts.sidebar.delete_all, run: () => list.removeAll() });
  openMenu(button, texts.sidebar.manage, items);
}
