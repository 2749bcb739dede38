// Editing a turn in its row. Sending a question begins another version of the conversation; an answer is
// changed in place. What was changed and not sent comes back when the turn is edited again.

import { announce, el, isComposing, texts } from "../../shell/page.js";
import { isSendKey } from "../composer/composer.js";
import { answerText } from "../turns/thoughts.js";

/** @import { AnswerRow, QuestionRow } from "./row.js" */

/** @import { Chat } from "../state/chat.js" */

/**
 * Changes that were not sent, by the ids of messages.
 *
 * @type {Map<string, string>}
 */
const unsent = new Map();

/** Where they outlive the page, in this tab. @param {Chat} chat */
const place = (chat) => `roxy-edits ${chat.place.person}`;

/**
 * @param {Chat} chat
 * @returns {Record<string, string>} texts by the ids of messages
 */
function readKept(chat) {
  try {
    const read = JSON.parse(sessionStorage.getItem(place(chat)) ?? "{}");
    return typeof read === "object" && read ? read : {};
  } catch {
    return {};
  }
}

/** @param {QuestionRow | AnswerRow} row */
const unsentText = ({ id, chat }) => unsent.get(id) ?? readKept(chat)[id];

/**
 * Keep the changed text of a message; null: there are no changes any more.
 *
 * @param {QuestionRow | AnswerRow} row
 * @param {string | null} text
 */
export function keepEdit({ id, chat }, text) {
  if (text === null) unsent.delete(id);
  else unsent.set(id, text);
  if (chat.current?.record.temporary) return; // nothing of it may outlive the page
  const { [id]: _before, ...others } = readKept(chat);
  try {
    sessionStorage.setItem(place(chat), JSON.stringify(text === null ? others : { ...others, [id]: text }));
  } catch {
    // Without room for it, it is kept as long as the page.
  }
}

/**
 * How a row is edited. `label`: of the button that sends or saves; `isDocument`: Enter is always a new line.
 *
 * @typedef {object} Edit
 * @property {string} label
 * @property {boolean} [isDocument]
 * @property {(text: string) => void} send gets the new text
 */

/**
 * Put a box in place of a row's text.
 *
 * @param {QuestionRow | AnswerRow} row
 * @param {Edit} edit
 */
export function editInPlace(row, edit) {
  const said = row.root.querySelector(":scope > .said, :scope > .md");
  if (row.root.querySelector(".edit")) return;
  const { message } = row;
  const box = el("textarea", { "aria-label": texts.transcript.new_text, rows: "1", dir: "auto" });
  const before = message.role === "user" ? message.text : answerText(message);
  box.value = unsentText(row) ?? before;
  const isChanged = () => box.value !== before;
  const mayBeEmpty = message.role === "user" && message.files?.length > 0;
  const release = row.chat.elsewhere?.hold(); // what other devices do must not replace the row
  const restore = () => {
    form.replaceWith(said ?? "");
    row.foot.hidden = false;
    release?.();
    /** @type {HTMLElement | null} */
    const button = row.root.querySelector('[data-act="edit"], [data-act="more"]');
    button?.focus({ preventScroll: true }); // the focus was in the form
  };
  const leave = () => {
    restore();
    if (unsentText(row) !== undefined) showUnsent(row, edit);
  };
  const cancel = () => {
    keepEdit(row, null);
    leave();
  };
  const form = el(
    "form",
    { class: "edit" },
    box,
    el(
      "p",
      { class: "buttons" },
      el("button", { type: "button", class: "button", onclick: cancel }, texts.transcript.cancel),
      el("button", { type: "submit", class: "button primary" }, edit.label),
    ),
  );
  const fit = () => {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text && !mayBeEmpty) return;
    keepEdit(row, null);
    restore();
    edit.send(text);
  });
  box.addEventListener("input", () => {
    keepEdit(row, isChanged() ? box.value : null);
    fit();
  });
  box.addEventListener("keydown", (event) => {
    if (isComposing(event)) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      leave();
    } else if (isSendKey(event, edit.isDocument ? "newline" : row.chat.enterKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  row.root.querySelector(".unsent")?.remove();
  if (said) said.replaceWith(form);
  else row.foot.before(form);
  row.foot.hidden = true;
  fit();
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}

/**
 * Say that a row has changes that were not sent, and offer to go on.
 *
 * @param {QuestionRow | AnswerRow} row
 * @param {Edit} edit
 */
function showUnsent(row, edit) {
  const goOn = el(
    "button",
    { type: "button", class: "link", onclick: () => editInPlace(row, edit) },
    texts.transcript.go_on_editing,
  );
  row.foot.before(el("p", { class: "unsent quiet small" }, `${texts.transcript.unfinished_edit} `, goOn));
  announce(texts.transcript.unfinished_edit);
}
