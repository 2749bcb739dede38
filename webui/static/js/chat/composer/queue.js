// The messages that wait for the end of the answer under way.

import { el, iconButton, pluralText, texts } from "../../shell/page.js";
import { shownFiles } from "../state/records.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { QueuedMessage } from "../state/types.js" */

/**
 * Return the entries of a queue. `busy`: an answer is under way, so none can be sent now.
 *
 * @param {Chat} chat
 * @param {QueuedMessage[]} queue
 * @param {{ busy: boolean, edit: (message: QueuedMessage) => void }} page
 */
export const queueEntries = (chat, queue, page) => queue.map((message) => entryOf(chat, message, page));

/**
 * @param {Chat} chat
 * @param {QueuedMessage} message
 * @param {{ busy: boolean, edit: (message: QueuedMessage) => void }} page
 */
function entryOf(chat, message, { busy, edit }) {
  /** @param {(taken: QueuedMessage) => void} [use] */
  const take = async (use) => {
    const taken = await chat.dequeue(message);
    if (taken) use?.(taken);
  };
  const send = () => take(({ text, files }) => void chat.send(text, files));
  return el(
    "li",
    {},
    el("span", { class: "quiet" }, texts.composer.next),
    el("span", { class: "clip" }, message.text || pluralText(texts.composer.files, shownFiles(message.files).length)),
    busy ? null : iconButton("arrow-up", texts.composer.send_queued, { onclick: send }),
    iconButton("pencil", texts.composer.edit_queued, { onclick: () => take(edit) }),
    iconButton("x", texts.composer.remove_queued, { onclick: () => take() }),
  );
}
