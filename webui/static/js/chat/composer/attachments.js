// Files for a message, however they come: each is checked when it is taken, not when it is sent.

import { count, size } from "../../shell/page.js";
import { newId } from "../state/store.js";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MOST_FILES = 10;
const SNIFFED_BYTES = 64 * 1024;

/**
 * Check files and make their records: `{ taken, problems }`, the problems in words.
 * `limits.fileBytes` is the largest size of one.
 */
export async function takeFiles(list, limits) {
  const taken = [];
  const problems = [];
  for (const file of list) {
    const problem = problemOf(file, limits.fileBytes);
    if (problem) problems.push(problem);
    else if (taken.length >= MOST_FILES) problems.push(`“${file.name}” was left out: ${MOST_FILES} files at a time.`);
    else taken.push(await record(file));
  }
  return { taken, problems };
}

function problemOf(file, most) {
  if (file.size > most) {
    const limit = `${size(most).replace(".0", "")} (${count(most)} bytes)`;
    return `“${file.name}” has ${count(file.size)} bytes: a file may have ${limit}.`;
  }
  return file.size === 0 ? `“${file.name}” is empty, or a folder.` : "";
}

async function record(file) {
  const type = file.type || "application/octet-stream";
  const kind = IMAGES.includes(type) ? "image" : (await isText(file)) ? "text" : "other";
  return { id: newId("f_"), name: file.name || "pasted", type, size: file.size, kind, blob: file };
}

/** Say whether a file's beginning reads as UTF-8 text. */
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
