// From a file that was picked, dropped or pasted to what is attached: photos are scaled, the text of
// documents is read by the server. One way for all three, with the limits checked first.

import { ApiError, callJson, isAbort } from "../../shell/api.js";
import { count, fill, size, texts } from "../../shell/page.js";
import { problemWords } from "../state/problems.js";
import { estimateTokens, newId } from "../state/records.js";
import { isHeic, mayBeImage, NoImage, prepareImage } from "./photos.js";

/** @import { FileRecord } from "../state/types.js" */

export const MAX_FILES = 10;
/** Photos are scaled, so they may be larger than what is kept. */
const MAX_PHOTO_BYTES = 64 * 1024 * 1024;
const SNIFFED_BYTES = 64 * 1024;
/** The beginnings of documents: PDF, zip (Office, OpenDocument, EPUB), Office before 2007, RTF. */
const DOCUMENTS = ["%PDF-", "PK\u0003\u0004", "\u00d0\u00cf\u0011\u00e0", "{\\rtf"];
const UTF_16 = ["\u00ff\u00fe", "\u00fe\u00ff"];
const MEDIA = /^(audio|video|font)\//;

/** Why a file cannot be attached, in words. */
export class Refusal extends Error {}

/**
 * The answer of `POST /documents`.
 *
 * @typedef {object} ReadDocument
 * @property {string} format
 * @property {string} text
 * @property {"page" | "sheet" | "slide" | null} unit
 * @property {number | null} units
 * @property {number | null} units_read
 * @property {boolean} truncated
 */

/**
 * Return the records that a file becomes: two for a document. Raises Refusal and the AbortError of `signal`.
 *
 * @param {File} file
 * @param {{ maxBytes: number, takesFiles: boolean, signal: AbortSignal }} options `takesFiles`: whether the model
 *   takes PDF files
 * @returns {Promise<FileRecord[]>}
 */
export async function prepareFile(file, options) {
  const { maxBytes } = options;
  const isImage = mayBeImage(file);
  if (file.size === 0) throw new Refusal(fill(texts.composer.empty, { name: file.name }));
  if (file.size > (isImage ? MAX_PHOTO_BYTES : maxBytes)) throw tooLarge(file, isImage ? MAX_PHOTO_BYTES : maxBytes);
  if (isImage) {
    const record = await imageRecord(file);
    if (record && record.size <= maxBytes) return [record];
    if (file.size > maxBytes) throw tooLarge(file, maxBytes);
  }
  const type = file.type || "application/octet-stream";
  const named = { name: file.name || texts.composer.pasted, type };
  const bytes = await file.arrayBuffer(); // a file on a disk may change or go before it is sent
  const blob = new Blob([bytes], { type });
  const head = bytes.slice(0, SNIFFED_BYTES);
  const start = new TextDecoder("latin1").decode(head.slice(0, 1024));
  const isDocument = DOCUMENTS.some((mark) => start.startsWith(mark)) || start.includes("%PDF-");
  if (!isDocument && isUtf8(head)) {
    const tokens = estimateTokens(await blob.text());
    return [{ id: newId("f_"), ...named, size: file.size, kind: "text", tokens, blob }];
  }
  /** @type {FileRecord} */
  const other = { id: newId("f_"), ...named, size: file.size, kind: "other", blob };
  const isUtf16 = UTF_16.some((mark) => start.startsWith(mark));
  if (isImage || MEDIA.test(type) || (!isDocument && !isUtf16 && looksBinary(head))) return [other];
  return readDocument(other, blob, options);
}

/**
 * @param {File} file
 * @param {number} most
 */
function tooLarge(file, most) {
  const values = {
    name: file.name,
    bytes: count(file.size),
    limit: size(most).replace(/[.,]0/, ""),
    most: count(most),
  };
  return new Refusal(fill(texts.composer.too_large, values));
}

/**
 * @param {File} file
 * @returns {Promise<FileRecord | null>} null: it is no image
 */
async function imageRecord(file) {
  try {
    const { blob, type, tokens } = await prepareImage(file);
    return {
      id: newId("f_"),
      name: file.name || texts.composer.pasted,
      type,
      size: blob.size,
      kind: "image",
      tokens,
      blob,
    };
  } catch (error) {
    if (!(error instanceof NoImage)) throw error;
    if (!isHeic(file)) return null;
    throw new Refusal(fill(texts.composer.heic, { name: file.name }));
  }
}

/**
 * @param {FileRecord} other the record of the file as it is
 * @param {Blob} content
 * @param {{ takesFiles: boolean, signal: AbortSignal }} options
 * @returns {Promise<FileRecord[]>}
 */
async function readDocument(other, content, { takesFiles, signal }) {
  /** @type {ReadDocument} */
  let found;
  try {
    found = await callJson("documents", { method: "POST", body: content, signal });
  } catch (error) {
    if (!(error instanceof ApiError) || isAbort(error)) throw error;
    if (error.code === "document_type_unsupported") return [other];
    if (error.code === "document_without_text" && takesFiles) return [other];
    throw new Refusal(fill(texts.composer.not_attached, { name: other.name, why: problemWords(error) }));
  }
  const blob = new Blob([found.text], { type: "text/plain" });
  /** @type {FileRecord} */
  const text = {
    ...{ id: newId("f_"), name: other.name, type: "text/plain", size: blob.size, kind: "text" },
    tokens: estimateTokens(found.text),
    blob,
  };
  if (found.truncated) text.cut = true;
  if (found.format === "text") return [text];
  if (found.unit && found.units) Object.assign(text, { unit: found.unit, units: found.units });
  if (found.truncated && found.units_read) text.unitsRead = found.units_read;
  return [{ ...other, source: true }, text];
}

/** @param {ArrayBuffer} bytes */
function isUtf8(bytes) {
  if (new Uint8Array(bytes).includes(0)) return false;
  try {
    // `stream`: a character may be cut at the end of what was read.
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/**
 * True if bytes are no text in any encoding: UTF-16 has a zero beside most letters, but no other control
 * characters.
 *
 * @param {ArrayBuffer} buffer
 */
function looksBinary(buffer) {
  let control = 0;
  const bytes = new Uint8Array(buffer);
  for (const byte of bytes) if (byte > 0 && byte < 9) control += 1;
  return control * 50 > bytes.length;
}
