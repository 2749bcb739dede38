// What is worked out from records alone: how many tokens and bytes messages and their files take in a request,
// and what becomes of a record that two tabs or devices have changed.
//
// A document is two files, one after the other: the file as it was attached (`source`), and its text, which
// is what is sent.

/** @import { ConversationRecord, Draft, FileRecord, Message } from "./types.js" */
/** @import { Turn } from "./request.js" */

const LETTERS_PER_TOKEN = 4;
/** Letters that are about a token each: Chinese, Japanese and Korean. */
const WIDE = /[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]/g;
/** What upstreams count for an image at most; about one token for 750 pixels. */
const MOST_IMAGE_TOKENS = 1600;
const PIXELS_PER_TOKEN = 750;
/** Base64 has four letters for three bytes. */
const BASE64 = 4 / 3;
/** The messages besides the files: JSON around the texts. */
const MARGIN_BYTES = 64 * 1024;
/** Providers take about 20 MB of images in a request, and some take no more than 20. */
const MOST_IMAGES = 20;
const MOST_IMAGE_BYTES = 14 * 1024 * 1024;

/**
 * Estimate how many tokens a text is.
 *
 * @param {string} text
 */
export function estimateTokens(text) {
  const wide = text.match(WIDE)?.length ?? 0;
  return Math.ceil(wide + (text.length - wide) / LETTERS_PER_TOKEN);
}

/**
 * Return an estimate without the digits that say nothing: 8,400 for 8,432.
 *
 * @param {number} tokens
 */
export function roundTokens(tokens) {
  const unit = tokens < 1000 ? 1 : 10 ** (Math.floor(Math.log10(tokens)) - 1);
  return Math.round(tokens / unit) * unit;
}

/**
 * Estimate how many tokens an image is.
 *
 * @param {number} width
 * @param {number} height
 */
export const imageTokens = (width, height) =>
  Math.min(MOST_IMAGE_TOKENS, Math.max(1, Math.ceil((width * height) / PIXELS_PER_TOKEN)));

/**
 * Estimate how many tokens files add to a request.
 *
 * @param {FileRecord[]} [files]
 */
export function tokensOfFiles(files = []) {
  let sum = 0;
  for (const { kind, size, tokens } of shownFiles(files)) {
    sum += tokens ?? (kind === "text" ? Math.ceil(size / LETTERS_PER_TOKEN) : kind === "image" ? 1000 : 30);
  }
  return sum;
}

/**
 * Return how many tokens of the context the shown messages take, counted where known, else estimated.
 *
 * @param {Message[]} path
 */
export function usedTokens(path) {
  const counts = path.map((message) => {
    const stats = message.role === "assistant" ? message.stats : null;
    return stats && stats.prompt !== null ? stats.prompt + (stats.completion ?? 0) : null;
  });
  const last = counts.findLastIndex((count) => count !== null);
  return path.slice(last + 1).reduce((sum, message) => {
    const files = message.role === "user" ? message.files : [];
    return sum + estimateTokens(message.text) + tokensOfFiles(files);
  }, counts[last] ?? 0);
}

/**
 * Return the ids of the images that a request leaves out: the oldest, when there are too many. Those of the
 * last message are always sent.
 *
 * @param {Pick<Turn, "text" | "files">[]} turns
 * @returns {Set<string>}
 */
export function imagesLeftOut(turns) {
  const left = new Set();
  let images = 0;
  let bytes = 0;
  let last = true;
  for (const { files } of turns.toReversed()) {
    const shown = (files ?? []).filter((file) => file.kind === "image");
    images += shown.length;
    bytes += shown.reduce((sum, file) => sum + file.size, 0);
    if (!last && (images > MOST_IMAGES || bytes > MOST_IMAGE_BYTES)) for (const { id } of shown) left.add(id);
    if (files) last = false;
  }
  return left;
}

/**
 * Return how many bytes the request for these turns has, about.
 *
 * @param {Pick<Turn, "text" | "files">[]} turns
 */
export function bytesOfTurns(turns) {
  const left = imagesLeftOut(turns);
  let sum = MARGIN_BYTES;
  for (const { text, files } of turns) {
    sum += text.length;
    for (const { id, kind, size } of shownFiles(files ?? [])) {
      if (left.has(id)) continue;
      sum += kind === "image" ? size * BASE64 : kind === "text" ? size : 200;
    }
  }
  return sum;
}

/**
 * True if the file at this place is a document whose text comes next, so that the document is not sent.
 *
 * @param {FileRecord[]} files
 * @param {number} at
 */
const isRead = (files, at) =>
  Boolean(files[at]?.source && files[at + 1]?.kind === "text" && files[at + 1].name === files[at].name);

/**
 * Return the files that are shown and sent: a document once.
 *
 * @param {FileRecord[]} files
 */
export const shownFiles = (files) => files.filter((_, at) => !isRead(files, at));

/**
 * Return the document that a text was read from; undefined for any other file.
 *
 * @param {FileRecord} file
 * @param {FileRecord[]} files
 */
export function sourceOf(file, files) {
  const before = files.indexOf(file) - 1;
  return isRead(files, before) ? files[before] : undefined;
}

/**
 * Return a file as it is written. WebKit's private windows refuse to store blobs.
 *
 * @param {FileRecord} file
 * @returns {Promise<FileRecord>}
 */
export async function withBytes({ blob, ...file }) {
  return blob ? { ...file, bytes: await blob.arrayBuffer() } : file;
}

/**
 * @template T
 * @param {T} record
 * @returns {T}
 */
export function withBlob(record) {
  const { bytes, ...file } = /** @type {FileRecord} */ (record ?? {});
  return bytes ? /** @type {T} */ ({ ...file, blob: new Blob([bytes], { type: file.type }) }) : record;
}

// Two writers of one record

/**
 * Return a text that two have changed: theirs, and what is not in it below.
 *
 * @param {string} theirs
 * @param {string} mine
 * @param {string} [seen] what mine was made from
 */
export function joinTexts(theirs, mine, seen = "") {
  if (theirs === seen || mine.includes(theirs)) return mine;
  const added = mine.split("\n\n").filter((paragraph) => !theirs.includes(paragraph));
  // Joined before, and typed on since.
  if (seen && theirs.endsWith(`\n\n${seen}`)) return theirs.slice(0, -seen.length) + mine;
  return [theirs, ...added].join("\n\n");
}

/**
 * Return what was typed on two devices as one draft.
 *
 * @param {Draft} theirs
 * @param {Draft | null} mine
 * @returns {Draft}
 */
export function joinDrafts(theirs, mine) {
  if (!mine) return theirs;
  const ids = new Set(theirs.files.map(({ id }) => id));
  const files = [...theirs.files, ...mine.files.filter(({ id }) => !ids.has(id))];
  return { text: joinTexts(theirs.text, mine.text), files };
}

/**
 * Return the name of a second one beside another of the same name.
 *
 * @param {string} name
 */
export const secondName = (name) => `${name.slice(0, 56)} (2)`; // 60 at most, see prompt_store.js

/** @param {unknown} a @param {unknown} b */
const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/**
 * Return an object with what has changed from `seen` to `now`, and else as it is stored.
 *
 * @template {Record<string, any>} T
 * @param {T} stored
 * @param {T} seen
 * @param {T} now
 * @returns {T}
 */
function withChanges(stored, seen, now) {
  /** @type {Record<string, any>} */
  const merged = { ...stored };
  for (const name of new Set([...Object.keys(seen), ...Object.keys(now)])) {
    if (isSame(now[name], seen[name])) continue;
    if (now[name] === undefined) delete merged[name];
    else merged[name] = now[name];
  }
  return /** @type {T} */ (merged);
}

/**
 * Return the record of a conversation as it is written: other tabs may have changed what this one has not.
 *
 * @param {ConversationRecord | undefined} stored
 * @param {ConversationRecord} seen
 * @param {ConversationRecord} now
 */
export function withOthers(stored, seen, now) {
  if (!stored) return now;
  const choices = withChanges(stored.choices ?? {}, seen.choices ?? {}, now.choices ?? {});
  const pairs = withChanges(stored.pairs ?? {}, seen.pairs ?? {}, now.pairs ?? {});
  const system = now.system === seen.system ? stored.system : joinTexts(stored.system, now.system, seen.system);
  return { ...withChanges(stored, seen, now), system, choices, ...(Object.keys(pairs).length ? { pairs } : {}) };
}

/**
 * Keep the text of an answer that was edited: what is still written of it is only its figures, unless there is
 * more of it.
 *
 * @template {Message} M
 * @param {M} copy what is written
 * @param {Message | undefined} before what is known
 */
export function keepEdited(copy, before) {
  if (copy.role === "user" || before?.role !== "assistant" || !before.edited || copy.edited) return copy;
  const isMore = copy.seq > before.seq || (copy.state === "done" && before.state !== "done");
  if (copy.job === before.job && !isMore) Object.assign(copy, before, { stats: copy.stats ?? before.stats });
  return copy;
}
