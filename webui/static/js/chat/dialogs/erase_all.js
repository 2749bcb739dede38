// The question before all conversations are deleted.

import { closeByBack } from "../../shell/dialog.js";
import { el, pluralText, texts } from "../../shell/page.js";

/**
 * Ask whether to delete all conversations. Returns true if so.
 *
 * @param {number} count
 * @param {boolean} onServer
 * @param {number} [prompts] how many prompts are deleted, too
 * @returns {Promise<boolean>}
 */
export function mayEraseAll(count, onServer, prompts = 0) {
  const forms = onServer ? texts.dialogs.erase_everywhere : texts.dialogs.erase_here;
  const cancel = el("button", { type: "button", class: "button" }, texts.dialogs.cancel);
  const erase = el("button", { type: "button", class: "button danger" }, texts.dialogs.delete_all);
  const dialog = el(
    "dialog",
    { "aria-labelledby": "erase-all-title" },
    el("h2", { id: "erase-all-title" }, texts.dialogs.erase_title),
    el("p", {}, pluralText(forms, count)),
    prompts ? el("p", {}, pluralText(texts.prompts.also_erased, prompts)) : null,
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
    closeByBack(dialog);
    dialog.showModal();
    cancel.focus();
  });
}
