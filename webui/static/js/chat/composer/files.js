// Files of a message as cards, which open them.

import { count, el, fill, icon, loadModule, pluralText, size, texts } from "../../shell/page.js";
import { roundTokens, shownFiles, sourceOf } from "../state/records.js";
import { find } from "../state/store.js";

/** @import { FileRecord } from "../state/types.js" */

/**
 * Return what a file is and how much it adds: "text, 12 pages, about 8,400 tokens".
 *
 * @param {FileRecord} file
 */
export function aboutFile({ kind, size: bytes, tokens, unit, units, unitsRead, cut }) {
  if (kind === "other") return fill(texts.composer.only_name, { size: size(bytes) });
  const all = { page: texts.composer.pages, sheet: texts.composer.sheets, slide: texts.composer.slides };
  const first = {
    page: texts.composer.first_pages,
    sheet: texts.composer.first_sheets,
    slide: texts.composer.first_slides,
  };
  const isText = kind === "text" && unit && units;
  const read = count(unitsRead ?? 0);
  const parts = [isText ? pluralText((unitsRead ? first : all)[unit], units, { read }) : size(bytes)];
  if (cut && !unitsRead) parts.push(texts.composer.beginning);
  if (tokens) parts.push(pluralText(texts.composer.about_tokens, roundTokens(tokens)));
  return parts.reduce((before, part) => fill(texts.chat.list, { first: before, rest: part }));
}

/**
 * Return the card of a file; that of an image shows the image. A click opens it.
 *
 * @param {FileRecord} file
 * @param {FileRecord} [source] the document that a text was read from
 */
export function fileCard(file, source) {
  const card = el("div", { class: `file ${file.kind}` });
  if (file.kind === "image" && file.blob) {
    const url = URL.createObjectURL(file.blob);
    card.append(el("img", { src: url, alt: file.name, onload: () => URL.revokeObjectURL(url) }));
  } else {
    card.append(icon(file.kind === "image" ? "image" : file.kind === "text" ? "file-text" : "file"));
  }
  const open = async () => {
    const { openFile } = await loadModule(() => import("./viewer.js"));
    openFile(file, source);
  };
  card.append(
    el(
      "button",
      {
        type: "button",
        class: "name",
        title: file.name,
        "aria-label": fill(texts.composer.open, { name: file.name }),
        onclick: open,
      },
      file.name,
    ),
    el(
      "span",
      { class: file.kind === "other" ? "about warn" : "about" },
      file.kind === "other" ? icon("triangle-alert") : "",
      aboutFile(file),
    ),
  );
  return card;
}

/**
 * Return the cards of a message's files; images are shown once they are read from the database.
 *
 * @param {FileRecord[]} files
 */
export function storedCards(files) {
  return shownFiles(files).map((file) => {
    const source = sourceOf(file, files);
    const card = fileCard(file, source);
    if (file.kind === "image") {
      find("files", file.id).then((stored) => stored?.blob && card.replaceWith(fileCard(stored)));
    }
    return card;
  });
}

/**
 * Return the card of a file that is being read.
 *
 * @param {string} name
 */
export const pendingCard = (name) =>
  el(
    "div",
    { class: "file pending", "aria-busy": "true" },
    icon("file-text"),
    el("span", { class: "name", title: name }, name),
    el("span", { class: "about" }, texts.composer.reading),
  );
