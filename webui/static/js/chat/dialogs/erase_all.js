// The question before all conversations are deleted.

import { el, plural } from "../../shell/page.js";

/**
 * Ask whether to delete all conversations. Returns true if so.
 *
 * @param {number} count
 * @param {boolean} onServer
 * @returns {Promise<boolean>}
 */
export function mayEraseAll(count, onServer) {
  const where = onServer ? "on the server and on all your devices" : "in this browser";
  const cancel = el("button", { type: "button", class: "button" }, "Cancel");
  const erase = el("button", { type: "button", class: "button danger" }, "Delete all");
  const dialog = el(
    "dialog",
    { "aria-labelledby": "erase-all-title" },
    el("h2", { id: "erase-all-title" }, "Delete all conversations?"),
    el(
      "p",
      {},
      `This deletes ${plural(count, "conversation")} with all files, ${where}. You cannot undo it. `,
      "Export them first if you may need them.",
    ),
    el("p", { class: "buttons" }, cancel, erase),
  );
  return new Promise((resolve) => {
    let confirmed = false;
    cancel.addEventListener("click", () => dialog.close());
    erase.addEventListener("click", () => {
      confirmed = true;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(confirmed);
    });
    document.body.append(dialog);
    dialog.showModal();
    cancel.focus();
  });
}
