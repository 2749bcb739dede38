// Dialogs: each has the same way out in its corner, and a press beside it closes it, too.

import { iconButton, texts } from "./page.js";

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
  dialog.showModal();
}
