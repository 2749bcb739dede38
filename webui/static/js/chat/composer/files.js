// Files of a message: checked when they are attached, not when they are sent, and shown as cards.

import { count, el, icon, size } from "../../shell/page.js";
import { find, newId } from "../state/store.js";

/** @import { FileRecord } from "../state/types.js" */

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MAX_FILES = 10;
const SNIFFED_BYTES = 64 * 1024;

/**
 * Check files and return the records of those that can be attached, and for the others the problems in words.
 *
 * @param {File[]} files
 * @param {number} maxBytes
 */
export async function checkFiles(files, maxBytes) {
  /** @type {FileRecord[]} */
  const accepted = [];
  /** @type {string[]} */
  const problems = [];
  for (const file of files) {
    const problem = problemOf(file, maxBytes);
    if (problem) problems.push(problem);
    else if (accepted.length >= MAX_FILES)
      problems.push(`“${file.name}” was not attached: the limit is ${MAX_FILES} files at a time.`);
    else accepted.push(await recordOf(file));
  }
  return { accepted, problems };
}

/**
 * @param {File} file
 * @param {number} maxBytes
 */
function problemOf(file, maxBytes) {
  if (file.size > maxBytes) {
    const limit = `${size(maxBytes).replace(".0", "")} (${count(maxBytes)} bytes)`;
    return `“${file.name}” has ${count(file.size)} bytes. The limit is ${limit}.`;
  }
  return file.size === 0 ? `“${file.name}” is empty or a folder.` : "";
}

/**
 * @param {File} file
 * @returns {Promise<FileRecord>}
 */
async function recordOf(file) {
  const type = file.type || "application/octet-stream";
  const kind = IMAGES.includes(type) ? "image" : (await isText(file)) ? "text" : "other";
  return { id: newId("f_"), name: file.name || "pasted", type, size: file.size, kind, blob: file };
}

/**
 * True if the beginning of a file is UTF-8 text.
 *
 * @param {File} file
 */
async function isText(file) {
  const bytes = new Uint8Array(await file.slice(0, SNIFFED_BYTES).arrayBuffer());
  if (bytes.includes(0)) return false;
  try {
    // `stream`: a character may be cut at the end of what was read.
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/**
 * Return the card of a file; that of an image shows the image.
 *
 * @param {FileRecord} file
 */
export function fileCard(file) {
  const card = el("div", { class: `file ${file.kind}` });
  if (file.kind === "image" && file.blob) {
    const url = URL.createObjectURL(file.blob);
    card.append(el("img", { src: url, alt: file.name, onload: () => URL.revokeObjectURL(url) }));
  } else {
    card.append(icon(file.kind === "image" ? "image" : file.kind === "text" ? "file-text" : "file"));
  }
  const unread = file.kind === "other" ? " · the model only sees its name" : "";
  card.append(
    el("span", { class: "name", title: file.name }, file.name),
    el("span", { class: "about" }, `${size(file.size)}${unread}`),
  );
  return card;
}

/**
 * Return the card of a file in the database; an image is shown once it is read.
 *
 * @param {FileRecord} file
 */
export function storedCard(file) {
  const card = fileCard(file);
  if (file.kind === "image") {
    find("files", file.id).then((stored) => stored?.blob && card.replaceWith(fileCard(stored)));
  }
  return card;
}
