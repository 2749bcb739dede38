// Editing a question in its row: sending it begins another version of the conversation.

import { el } from "../../shell/page.js";

/** @import { QuestionRow } from "./row.js" */

/**
 * Put a box in place of a row's text; `send` gets the new text.
 *
 * @param {QuestionRow} row
 * @param {(text: string) => void} send
 */
export function editInPlace(row, send) {
  const said = row.root.querySelector(".said");
  if (!said && row.root.querySelector(".edit")) return;
  const box = el("textarea", { "aria-label": "New text", rows: "1", dir: "auto" });
  box.value = row.message.text;
  const restore = () => {
    form.replaceWith(said ?? "");
    row.foot.hidden = false;
  };
  const cancel = () => {
    restore();
    /** @type {HTMLElement | null} */
    const button = row.root.querySelector('[data-act="edit"]');
    button?.focus();
  };
  const form = el(
    "form",
    { class: "edit" },
    box,
    el(
      "p",
      { class: "buttons" },
      el("button", { type: "button", class: "button", onclick: cancel }, "Cancel"),
      el("button", { type: "submit", class: "button primary" }, "Send"),
    ),
  );
  const fit = () => {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!box.value.trim()) return;
    restore();
    send(box.value.trim());
  });
  box.addEventListener("input", fit);
  box.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  if (said) said.replaceWith(form);
  else row.foot.before(form);
  row.foot.hidden = true;
  fit();
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}
