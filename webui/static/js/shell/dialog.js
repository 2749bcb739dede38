// Dialogs. On small screens the browser's Back closes them, as Esc does: while dialogs are open the history has an
// entry for each, and none afterwards.

import { DIALOGS_EVENT, el, iconButton, texts } from "./page.js";

const narrow = matchMedia("(max-width: 56rem)");
/**
 * The open dialogs that Back closes, the last one on top.
 *
 * @type {HTMLDialogElement[]}
 */
const open = [];
/** True from a step back that was made here until the browser has made it. */
let isLeaving = false;

/** How many of the history's entries are those of dialogs. */
const entries = () => history.state?.dialogs ?? 0;

/** Bring the browser's history in line with the open dialogs. */
function settle() {
  if (isLeaving) return;
  while (entries() < open.length) history.pushState({ ...history.state, dialogs: entries() + 1 }, "");
  isLeaving = entries() > open.length;
  if (isLeaving) history.go(open.length - entries());
}

/**
 * Have the browser's Back close a dialog that is being shown, on small screens.
 *
 * @param {HTMLDialogElement} dialog
 */
function closeByBack(dialog) {
  if (!narrow.matches) return;
  open.push(dialog);
  settle();
  dialog.addEventListener("close", () => {
    open.splice(0, open.length, ...open.filter((one) => one !== dialog));
    setTimeout(settle); // another one may be opened in its place
  });
}

// What is about dialogs only is none of the page's business. But where this is loaded after the page's own listener,
// Chromium calls that first: the window has no phase of capturing there.
addEventListener(
  "popstate",
  (event) => {
    const wasLeaving = isLeaving;
    isLeaving = false;
    if (!wasLeaving && entries() === open.length) return;
    event.stopImmediatePropagation();
    if (!wasLeaving) for (const dialog of open.slice(entries()).reverse()) leave(dialog);
    open.splice(0, open.length, ...open.filter((one) => one.open));
    settle(); // one may have stayed, to ask whether to leave it
    if (!entries()) document.dispatchEvent(new Event(DIALOGS_EVENT));
  },
  { capture: true },
);

/**
 * Close a dialog as Esc does: what listens to its event "cancel" can hold it.
 *
 * @param {HTMLDialogElement} dialog
 */
function leave(dialog) {
  if (dialog.dispatchEvent(new Event("cancel", { cancelable: true }))) dialog.close();
}

/**
 * True if a press is beside a dialog. Its own padding is not.
 *
 * @param {HTMLDialogElement} dialog
 * @param {MouseEvent} event
 */
function isBeside(dialog, { target, clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return target === dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
}

/**
 * How a dialog is opened. `leavesPage`: it may be closed to leave the page. Then the browser's history stays as it is:
 * a step back in it could end the loading of the next page.
 *
 * @typedef {{ leavesPage?: boolean }} DialogOptions
 */

/**
 * Open a dialog; it is removed when it is closed. What has `autofocus` gets the focus, else its first control.
 *
 * @param {HTMLDialogElement} dialog
 * @param {DialogOptions} [options]
 */
export function openDialog(dialog, { leavesPage = false } = {}) {
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  if (!leavesPage) closeByBack(dialog);
  dialog.showModal();
}

/**
 * Ask a question in a dialog. Returns true once the answer that cannot be undone is chosen; the other one has the
 * focus, and is that of Esc and of Back.
 *
 * @param {string} question
 * @param {(Node | null)[]} about
 * @param {{ stay: string, go: string }} labels
 * @param {DialogOptions} [options]
 * @returns {Promise<boolean>}
 */
export function askInDialog(question, about, labels, options) {
  const stay = el("button", { type: "button", class: "button", autofocus: true }, labels.stay);
  const go = el("button", { type: "button", class: "button danger" }, labels.go);
  const dialog = el(
    "dialog",
    { "aria-labelledby": "question-title" },
    el("h2", { id: "question-title" }, question),
    ...about,
    el("p", { class: "buttons" }, stay, go),
  );
  return new Promise((resolve) => {
    let isSure = false;
    stay.addEventListener("click", () => dialog.close());
    go.addEventListener("click", () => {
      isSure = true;
      dialog.close();
    });
    dialog.addEventListener("close", () => resolve(isSure));
    openDialog(dialog, options);
  });
}

/**
 * Open a dialog that only shows something or keeps what is set at once: it has a button that closes it in its
 * corner, and a press beside it closes it, too.
 *
 * @param {HTMLDialogElement} dialog
 */
export function showDialog(dialog) {
  dialog.prepend(iconButton("x", texts.page.close, { class: "icon-button leave", onclick: () => leave(dialog) }));
  // A text that is selected with the mouse may end beside it: only what begins there counts.
  let beside = false;
  dialog.addEventListener("pointerdown", (event) => {
    beside = isBeside(dialog, event);
  });
  dialog.addEventListener("click", (event) => {
    if (beside && isBeside(dialog, event)) leave(dialog);
  });
  openDialog(dialog);
}
