// The page of keys that were just created: copy their secrets, or save them as a file.

import { copyFrom } from "../shell/clipboard.js";
import { download } from "../shell/download.js";
import { part } from "../shell/page.js";
import { asCsv } from "./csv.js";
import { release, showOnce } from "./shown_once.js";

const table = part("[data-columns]", HTMLTableElement);

/** Return the rows of the table: name, secret or invitation, note and id. */
function rows() {
  /** @type {NodeListOf<HTMLTableRowElement>} */
  const lines = table.querySelectorAll("tbody tr");
  return [...lines].map((line) => {
    const text = (/** @type {string} */ selector) => line.querySelector(selector)?.textContent?.trim() ?? "";
    return [text("th"), text("code"), text("td:last-child"), line.dataset.key ?? ""];
  });
}

/** Save the table as a file; the secrets leave the page for nowhere else. */
function save() {
  const head = (table.dataset.columns ?? "").split(","); // in English, for programs that read the file
  // With a byte order mark, without which Excel reads UTF-8 as the system's code page.
  download("keys.csv", `\ufeff${asCsv([head, ...rows()])}`, "text/csv;charset=utf-8");
  release();
}

const saveButton = part("[data-save]", HTMLButtonElement);
saveButton.hidden = false;
saveButton.addEventListener("click", save);
const copyButton = part("[data-copy-all]", HTMLButtonElement);
copyButton.hidden = false;
copyButton.addEventListener("click", () => {
  copyFrom(
    copyButton,
    rows()
      .map(([name, secret]) => `${name}\t${secret}`)
      .join("\n"),
  );
  release();
});
/** @type {NodeListOf<HTMLElement>} */
const buttons = table.querySelectorAll("[data-copy-text]");
const uncopied = new Set(buttons);
for (const button of buttons) {
  button.hidden = false;
  button.addEventListener("click", () => {
    copyFrom(button, button.dataset.copyText ?? "");
    uncopied.delete(button);
    if (!uncopied.size) release();
  });
}
showOnce(part("[data-once]", HTMLElement));
