// What is attached to the message in the box: files that are being read, and the cards of all.

import { el, fill, iconButton, pluralText, texts } from "../../shell/page.js";
import { shownFiles, sourceOf } from "../state/records.js";
import { takesFiles } from "../state/request.js";
import { fileCard, pendingCard } from "./files.js";
import { MAX_FILES, prepareFile, Refusal } from "./preparing.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { FileRecord } from "../state/types.js" */

/**
 * The files in the box. `reading`: those that are not ready yet; `pasted`: the ids of texts that were pasted.
 *
 * @typedef {object} Tray
 * @property {FileRecord[]} files
 * @property {{ name: string, control: AbortController }[]} reading
 * @property {Set<string>} pasted
 */

/**
 * Add files, in their order, each when it is ready. Returns what prevents some of them, in words.
 *
 * @param {Tray} tray
 * @param {File[]} list
 * @param {{ chat: Chat, isText: boolean, changed: () => void }} options `isText`: they were pasted as text
 */
export async function attach(tray, list, { chat, isText, changed }) {
  const options = { maxBytes: chat.maxFileBytes, takesFiles: takesFiles(chat.model) };
  const started = list.slice(0, MAX_FILES).map((file) => {
    const control = new AbortController();
    const entry = { name: file.name, control };
    tray.reading.push(entry);
    const preparing = prepareFile(file, { ...options, signal: control.signal });
    preparing.catch(() => {}); // it is awaited below, in its turn
    return { entry, preparing };
  });
  const problems = list.slice(MAX_FILES).map(({ name }) => pluralText(texts.composer.too_many, MAX_FILES, { name }));
  changed();
  for (const { entry, preparing } of started) {
    try {
      const records = await preparing;
      if (entry.control.signal.aborted) continue;
      if (isText) tray.pasted.add(records[0].id);
      tray.files = [...tray.files, ...records];
      chat.saveFiles(records);
    } catch (error) {
      if (entry.control.signal.aborted) continue;
      problems.push(error instanceof Refusal ? error.message : fill(texts.composer.not_read, { name: entry.name }));
    }
    tray.reading = tray.reading.filter((other) => other !== entry);
    changed();
  }
  return problems;
}

/**
 * Show the cards of all files in a box.
 *
 * @param {HTMLElement} box
 * @param {Tray} tray
 * @param {{ changed: () => void, insert: (text: string) => void, focus: () => void }} page `insert` puts a text into
 *   the message, `focus` moves the focus there
 */
export function showTray(box, tray, page) {
  /**
   * Add a button that removes a card. The focus goes to the next one, or to the message.
   *
   * @param {HTMLElement} card
   * @param {string} name
   * @param {() => void} remove
   */
  const removable = (card, name, remove) => {
    const onclick = () => {
      const at = [...box.children].indexOf(card);
      remove();
      showTray(box, tray, page);
      page.changed();
      const next = box.children[Math.min(at, box.children.length - 1)];
      const button = next?.querySelector(".icon-button");
      if (button instanceof HTMLElement) button.focus();
      else page.focus();
    };
    card.append(iconButton("x", fill(texts.composer.remove, { name }), { onclick }));
    return card;
  };

  /** @param {FileRecord} file */
  const cardOf = (file) => {
    const source = sourceOf(file, tray.files);
    const card = fileCard(file, source);
    const remove = () => {
      tray.files = tray.files.filter((other) => other !== file && other !== source);
    };
    if (tray.pasted.has(file.id)) {
      const onclick = async () => {
        const text = (await file.blob?.text()) ?? "";
        remove();
        showTray(box, tray, page);
        page.insert(text);
      };
      card.append(el("button", { type: "button", class: "link", onclick }, texts.composer.put_in_message));
    }
    return removable(card, file.name, remove);
  };

  const pending = tray.reading.map((entry) =>
    removable(pendingCard(entry.name), entry.name, () => {
      entry.control.abort();
      tray.reading = tray.reading.filter((other) => other !== entry);
    }),
  );
  box.replaceChildren(...shownFiles(tray.files).map(cardOf), ...pending);
  box.hidden = box.children.length === 0;
}
