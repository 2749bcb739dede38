// What is worked out from records alone: how many tokens and bytes messages and their files take in a request, new
// records, and what becomes of texts and records that two tabs or devices have changed: the words of both stay.
//
// A document is two files, one after the other: the file as it was attached (`source`), and its text, which
// is what is sent.

/** @import { ConversationRecord, Draft, FileRecord, Message } from "./types.js" */
/** @import { Turn } from "./request.js" */

const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const TITLE_LETTERS = 60;
const LETTERS_PER_TOKEN = 4;
/** Letters that are about a token each: Chinese, Japanese and Korean. */
const WIDE = /[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]/g;
/** What upstreams count for an image at most; about one token for 750 pixels. */
const MAX_IMAGE_TOKENS = 1600;
const PIXELS_PER_TOKEN = 750;
/** Base64 has four letters for three bytes. */
const BASE64 = 4 / 3;
/** The messages besides the files: JSON around the texts. */
const MARGIN_BYTES = 64 * 1024;
/** Providers take about 20 MB of images in a request, and some take no more than 20. */
const MAX_IMAGES = 20;
const MAX_IMAGE_BYTES = 14 * 1024 * 1024;

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
  Math.min(MAX_IMAGE_TOKENS, Math.max(1, Math.ceil((width * height) / PIXELS_PER_TOKEN)));

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
    if (!last && (images > MAX_IMAGES || bytes > MAX_IMAGE_BYTES)) for (const { id } of shown) left.add(id);
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

// New records

/**
 * Return a new id that cannot be guessed; it needs no secure context.
 *
 * @param {string} prefix
 */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(20));
  return prefix + Array.from(bytes, (byte) => ID_ALPHABET[byte % 36]).join("");
}

/**
 * Return the record of a new conversation; it is saved with its first message or draft.
 *
 * @param {string} model
 * @returns {ConversationRecord}
 */
export function newConversation(model) {
  const now = Date.now();
  return {
    id: newId("c_"),
    title: "",
    created: now,
    updated: now,
    pinned: false,
    model,
    system: "",
    parameters: {},
    choices: {},
    draft: null,
    deleted: null,
  };
}

/**
 * Return the beginning of a text as one plain line, without the marks of Markdown.
 *
 * @param {string} words
 */
export function titleOf(words) {
  const plain = words
    .replace(/^\s*(?:```|~~~).*$/gm, " ")
    .replace(/^\s*(?:#{1,6}\s+|>\s?|[-*+]\s+(?:\[[ x]\]\s+)?(?=\p{L}))/gimu, "")
    .replace(/!?\[([^\]\n]+)\]\([^)\s]*\)/g, "$1")
    .replace(/(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])/g, "$2")
    .replace(/(`+|~~)(?=\S)([^`~\n]*\S)\1/g, "$2");
  const title = (plain.trim() ? plain : words).replace(/\s+/g, " ").trim();
  const letters = [...title]; // whole characters: an emoji has two code units
  return letters.length > TITLE_LETTERS ? `${letters.slice(0, TITLE_LETTERS).join("").trimEnd()}…` : title;
}

// Two writers of one record

const GAP = "\n\n";
/** @type {Draft} */
export const NO_DRAFT = { text: "", files: [] };

/**
 * Return what was written in place of what.
 *
 * @param {string} from
 * @param {string} to
 */
function changeOf(from, to) {
  const most = Math.min(from.length, to.length);
  let start = 0;
  while (start < most && from[start] === to[start]) start++;
  let same = 0;
  while (same < most - start && from.at(-1 - same) === to.at(-1 - same)) same++;
  return { start, end: from.length - same, text: to.slice(start, to.length - same) };
}

/**
 * Return how well a paragraph fits another: 3 the same, 2 with a change, 0 another one.
 *
 * @param {string} from
 * @param {string} to
 */
function fit(from, to) {
  if (from === to) return 3;
  const { start, end, text } = changeOf(from, to);
  const kept = from.length - (end - start);
  const isLonger = start === end || !text;
  return kept && (isLonger || 2 * kept >= Math.max(from.length, to.length)) ? 2 : 0;
}

/**
 * Return, for each paragraph of a text, where it stands in another one; -1: it does not.
 *
 * @param {string[]} from
 * @param {string[]} to
 */
function placesOf(from, to) {
  // How well what begins at i fits what begins at j.
  const best = Array.from({ length: from.length + 1 }, () => new Array(to.length + 1).fill(0));
  const withPair = (/** @type {number} */ i, /** @type {number} */ j) => {
    const fits = fit(from[i], to[j]);
    return fits && fits + best[i + 1][j + 1];
  };
  for (let i = from.length - 1; i >= 0; i--)
    for (let j = to.length - 1; j >= 0; j--) best[i][j] = Math.max(withPair(i, j), best[i + 1][j], best[i][j + 1]);
  const places = new Array(from.length).fill(-1);
  for (let i = 0, j = 0; i < from.length && j < to.length; ) {
    if (best[i][j] === best[i + 1][j]) i++;
    else if (best[i][j] === best[i][j + 1]) j++;
    else places[i++] = j++;
  }
  return places;
}

/**
 * Return what becomes of a paragraph; undefined: it was deleted.
 *
 * @param {string} seen
 * @param {string | undefined} theirs
 * @param {string | undefined} mine
 */
function joinParagraph(seen, theirs, mine) {
  if (theirs === seen || theirs === mine) return [mine];
  if (mine === seen) return [theirs];
  if (theirs === undefined || mine === undefined) return [theirs ?? mine]; // what was written stays
  const [first, second] = [changeOf(seen, theirs), changeOf(seen, mine)].sort((a, b) => a.start - b.start);
  if (first.end < second.start) {
    const between = seen.slice(first.end, second.start);
    return [seen.slice(0, first.start) + first.text + between + second.text + seen.slice(second.end)];
  }
  return joinNew([theirs], [mine]);
}

/**
 * Return what two have written in the same place.
 *
 * @param {string[]} theirs
 * @param {string[]} mine
 */
function joinNew(theirs, mine) {
  if (mine.join(GAP).includes(theirs.join(GAP))) return mine;
  return [...theirs, ...mine.filter((paragraph) => !theirs.some((one) => one.includes(paragraph)))];
}

/**
 * Return a text that two have changed, paragraph by paragraph: the changes of both, and where both have written in
 * one place, theirs and mine below.
 *
 * @param {string} theirs
 * @param {string} mine
 * @param {string} [seen] what mine was made from
 */
export function joinTexts(theirs, mine, seen = "") {
  if (theirs === seen || theirs === mine) return mine;
  if (mine === seen) return theirs;
  const [other, own, before] = [theirs, mine, seen].map((text) => (text ? text.split(GAP) : []));
  const [inOther, inOwn] = [placesOf(before, other), placesOf(before, own)];
  /** @type {(string | undefined)[]} */
  const joined = [];
  let [j, k] = [0, 0]; // what is done of `other` and `own`
  for (const [i, paragraph] of before.entries()) {
    const [there, here] = [inOther[i], inOwn[i]];
    joined.push(...joinNew(other.slice(j, Math.max(j, there)), own.slice(k, Math.max(k, here))));
    joined.push(...joinParagraph(paragraph, other[there], own[here]));
    [j, k] = [Math.max(j, there + 1), Math.max(k, here + 1)];
  }
  joined.push(...joinNew(other.slice(j), own.slice(k)));
  return joined.filter((one) => one !== undefined).join(GAP);
}

/**
 * Return what was typed on two devices as one draft.
 *
 * @param {Draft | null} theirs
 * @param {Draft | null} mine
 * @param {Draft | null} [seen] what mine was made from
 * @returns {Draft | null} null: nothing is left
 */
export function joinDrafts(theirs, mine, seen = null) {
  const [other, own, before] = [theirs ?? NO_DRAFT, mine ?? NO_DRAFT, seen ?? NO_DRAFT];
  const isIn = (/** @type {Draft} */ draft, /** @type {string} */ id) => draft.files.some((file) => file.id === id);
  const kept = other.files.filter(({ id }) => isIn(own, id) || !isIn(before, id));
  const added = own.files.filter(({ id }) => !isIn(other, id) && !isIn(before, id));
  const text = joinTexts(other.text, own.text, before.text);
  const files = [...kept, ...added];
  return text || files.length ? { text, files } : null;
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
  const draft = isSame(now.draft, seen.draft) ? stored.draft : joinDrafts(stored.draft, now.draft, seen.draft);
  return { ...withChanges(stored, seen, now), system, draft, choices, ...(Object.keys(pairs).length ? { pairs } : {}) };
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
