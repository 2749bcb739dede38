// What a person can do with chats that are on the server although the history was switched off.

import { callJson } from "../../shell/api.js";
import { el, texts } from "../../shell/page.js";
import { mayEraseAll } from "../dialogs/erase_all.js";
import { problemWords } from "../state/problems.js";

/**
 * Return a note that offers to download and to delete them.
 *
 * @param {number} count
 */
export function leftOnServer(count) {
  const said = el("p", { class: "quiet small", role: "status" }, texts.history.left_on_server);
  const file = { href: "/api/v1/history/export", download: "" };
  const download = el("a", { class: "button", ...file }, texts.history.download_left);
  const erase = el("button", { type: "button", class: "button danger" }, texts.history.delete_left);
  const buttons = el("p", { class: "buttons" }, download, erase);
  erase.addEventListener("click", async () => {
    if (!(await mayEraseAll(count, true))) return;
    try {
      await callJson("history", { method: "DELETE" });
      buttons.remove();
      said.textContent = texts.history.left_deleted;
    } catch (error) {
      said.textContent = problemWords(error);
    }
  });
  return el("div", { class: "left-on-server" }, said, buttons);
}
