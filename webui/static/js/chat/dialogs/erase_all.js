// The question before all conversations are deleted.

import { askInDialog } from "../../shell/dialog.js";
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
  const about = [el("p", {}, pluralText(forms, count))];
  if (prompts) about.push(el("p", {}, pluralText(texts.prompts.also_erased, prompts)));
  return askInDialog(texts.dialogs.erase_title, about, { stay: texts.dialogs.cancel, go: texts.dialogs.delete_all });
}
