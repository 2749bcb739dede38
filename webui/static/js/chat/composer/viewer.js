// A dialog that shows a file: an image, or the text that is sent; with a button that saves it.

import { showDialog } from "../../shell/dialog.js";
import { count, el, pluralText, texts } from "../../shell/page.js";
import { find } from "../state/store.js";
import { aboutFile } from "./files.js";

/** @import { FileRecord } from "../state/types.js" */

const SHOWN_LETTERS = 200_000;

/**
 * Show a file. Of a document the text is shown, and the document is what is saved.
 *
 * @param {FileRecord} file
 * @param {FileRecord} [source] the document that a text was read from
 */
export async function openFile(file, source) {
  const title = el("h2", {}, file.name);
  const body = el(
    "div",
    { class: "shown", tabindex: "0", autofocus: true, role: "group", "aria-label": texts.composer.content },
    texts.composer.loading,
  );
  const buttons = el("p", { class: "buttons" });
  /** @type {string[]} */
  const urls = [];
  const dialog = el(
    "dialog",
    { class: "viewer", "aria-label": file.name, onclose: () => closed() },
    title,
    el("p", { class: "quiet small" }, aboutFile(file)),
    body,
    buttons,
  );
  const closed = () => {
    for (const url of urls) URL.revokeObjectURL(url);
  };
  showDialog(dialog);

  const [blob, original] = await Promise.all([contentOf(file), source && contentOf(source)]);
  const saved = original ?? blob;
  if (saved) {
    const url = URL.createObjectURL(saved);
    urls.push(url);
    const label = source ? texts.composer.save_document : texts.composer.save;
    buttons.append(el("a", { class: "button", href: url, download: file.name }, label));
  }
  if (!blob) body.replaceChildren(el("p", {}, texts.composer.not_stored));
  else await show(body, file, blob, urls);
}

/** @param {FileRecord} file */
const contentOf = async (file) => file.blob ?? (await find("files", file.id))?.blob;

/**
 * @param {HTMLElement} body
 * @param {FileRecord} file
 * @param {Blob} blob
 * @param {string[]} urls those to be revoked
 */
async function show(body, file, blob, urls) {
  if (file.kind === "image") {
    const url = URL.createObjectURL(blob);
    urls.push(url);
    body.replaceChildren(el("img", { src: url, alt: file.name }));
    return;
  }
  if (file.kind === "other") {
    body.replaceChildren(el("p", {}, texts.composer.cannot_show));
    return;
  }
  const text = await blob.text();
  const pre = el("pre", { dir: "auto" }, text.slice(0, SHOWN_LETTERS));
  const rest = text.length - SHOWN_LETTERS;
  body.replaceChildren(pre);
  if (rest <= 0) return;
  body.append(el("p", { class: "quiet" }, pluralText(texts.composer.rest, rest, { all: count(text.length) })));
}
