// Editing a turn in its row. Sending a question begins another version of the conversation; an answer is
// changed in place.

import { el, texts } from "../../shell/page.js";

/** @import { AnswerRow, QuestionRow } from "./row.js" */

/**
 * Put a box in place of a row's text; `send` gets the new text.
 *
 * @param {QuestionRow | AnswerRow} row
 * @param {string} label of the button that sends or saves it
 * @param {(text: string) => void} send
 */
export function editInPlace(row, label, send) {
  const said = row.root.querySelector(":scope > .said, :scope > .md");
  if (!said && row.root.querySelector(".edit")) return;
  const box = el("textarea", { "aria-label": texts.transcript.new_text, rows: "1", dir: "auto" });
  box.value = row.message.text;
  const release = row.chat.elsewhere?.hold(); // what other devices do must not replace the row
  const restore = () => {
    form.replaceWith(said ?? "");
    row.foot.hidden = false;
    release?.();
  };
  const cancel = () => {
    restore();
    /** @type {HTMLElement | null} */
    const button = row.root.querySelector('[data-act="edit"], [data-act="more"]');
    button?.focus();
  };
  const form = el(
    "form",
    { class: "edit" },
    box,
    el(
      "p",
      { class: "buttons" },
      el("button", { type: "button", class: "button", onclick: cancel }, texts.transcript.cancel),
      el("button", { type: "submit", class: "button primary" }, label),
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
