// Dialogs: each has the same way out in its corner, and a press beside it closes it, too. On small screens so does
// the browser's Back: while dialogs are open the history has an entry for each, and none afterwards.

import { DIALOGS_EVENT, iconButton, texts } from "./page.js";

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
export function closeByBack(dialog) {
  if (!narrow.matches) return;
  open.push(dialog);
  settle();
  dialog.addEventListener("close", () => {
    open.splice(0, open.length, ...open.filter((one) => one !== dialog));
    setTimeout(settle); // another one may be opened in its place
  });
}

// Before the page's own listener: what is about dialogs only is none of its business.
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
 * Show a dialog; it is removed when it is closed. What has `autofocus` gets the focus, else its first control.
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
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  closeByBack(dialog);
  dialog.showModal();
}
