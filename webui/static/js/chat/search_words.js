// Words of a search: texts are folded, words found in them, and excerpts cut around what was found.
//
// The server does the same (`server/history/folding.py`); one table of cases tests both.

/** Columns of an excerpt before the first mark: a narrow list must show it. */
const BEFORE = 16;
/** Columns from the beginning of the first mark on. */
const AFTER = 120;
/** Words that begin within so many letters are shown together. */
const NEAR = 60;
const BLOCK = 2048;
/** Places of one word that are looked at. */
const MAX_PLACES = 200;
/** Of the text of a file so much is searched. */
export const MAX_FILE_CHARS = 1_000_000;

const GAPLESS =
  /^[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\u{20000}-\u{3ffff}]/u;
const WIDE = /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60\u{1f300}-\u{3ffff}]/u;
/** What is folded together with the letter before it: marks, the rest of Hangul syllables, narrow voice marks. */
const JOINS = /^[\p{M}\u1160-\u11ff\uff9e\uff9f]/u;
const LETTER = /^[\p{L}\p{N}\p{M}]/u;
/** Letters that folding changes though they are in lower case. */
const SPECIAL = /\u0345|[\u00df\u03c2\u1c80-\u1c88\u1f80-\u1ffc]/g;
const PLAIN = /^[\0-\x7f]*$/;

/**
 * Where a word stands in a text. `isStart`: it begins like one of the text's words.
 *
 * @typedef {{ start: number, end: number, word: string, isStart: boolean }} WordPlace
 */

/** @typedef {[from: number, to: number]} Mark */

/**
 * Return a text without case and width.
 *
 * @param {string} text
 */
export function fold(text) {
  const lower = text.normalize("NFKC").toLowerCase();
  const folded = PLAIN.test(lower)
    ? lower
    : lower.replace(SPECIAL, (letter) => letter.toUpperCase().toLowerCase()).normalize("NFKC");
  return folded.replaceAll("\0", " ");
}

/**
 * Return the words of a query.
 *
 * @param {string} query
 */
export const wordsOf = (query) => [...new Set(fold(query).split(/\s+/).filter(Boolean))];

/**
 * @param {string} text
 * @param {number} at
 */
const letterAt = (text, at) => String.fromCodePoint(text.codePointAt(at) ?? 0);

/**
 * @param {string} text
 * @param {number} at
 */
function letterBefore(text, at) {
  const isPair = at > 1 && /[\ud800-\udbff][\udc00-\udfff]/.test(text.slice(at - 2, at));
  return text.slice(at - (isPair ? 2 : 1), at);
}

/**
 * Return where the letter after one ends, with what is folded together with it.
 *
 * @param {string} text
 * @param {number} at
 */
function afterLetter(text, at) {
  let end = at + letterAt(text, at).length;
  while (end < text.length && JOINS.test(text.slice(end, end + 2))) end += letterAt(text, end).length;
  return end;
}

/**
 * Cut a text into blocks, never between what is folded together.
 *
 * @param {string} text
 */
function blocksOf(text) {
  const blocks = [];
  for (let start = 0; start < text.length; ) {
    const end = start + BLOCK < text.length ? afterLetter(text, start + BLOCK) : text.length;
    blocks.push({ start, text: text.slice(start, end) });
    start = end;
  }
  return blocks;
}

/**
 * Return for each letter of a folded text where it comes from, and where that ends.
 *
 * @param {string} text
 */
function originsOf(text) {
  /** @type {Mark[]} */
  const origins = [];
  for (let start = 0; start < text.length; ) {
    const end = afterLetter(text, start);
    for (let left = fold(text.slice(start, end)).length; left > 0; left -= 1) origins.push([start, end]);
    start = end;
  }
  return origins;
}

/**
 * @param {string} text
 * @param {number} at
 */
function beginsWord(text, at) {
  if (at === 0) return true;
  const before = letterBefore(text, at);
  const letter = letterAt(text, at);
  return !LETTER.test(before) || !LETTER.test(letter) || GAPLESS.test(before) || GAPLESS.test(letter);
}

/** A folded text, and from where in the text its letters come. */
class Folded {
  #isPlain;
  /** @type {{ start: number, begin: number, text: string, origins: Mark[] | null }[]} */
  #blocks = [];

  /** @param {string} text */
  constructor(text) {
    this.text = "";
    this.#isPlain = PLAIN.test(text);
    if (this.#isPlain) this.text = fold(text);
    else
      for (const block of blocksOf(text)) {
        this.#blocks.push({ ...block, begin: this.text.length, origins: null });
        this.text += fold(block.text);
      }
  }

  /**
   * Return from where in the text a folded letter comes.
   *
   * @param {number} at
   * @returns {Mark}
   */
  #origin(at) {
    if (this.#isPlain) return [at, at + 1];
    const number = this.#blocks.findLastIndex(({ begin }) => begin <= at);
    const block = this.#blocks[number];
    block.origins ??= originsOf(block.text);
    const [from, to] = block.origins[at - block.begin];
    return [block.start + from, block.start + to];
  }

  /**
   * Find a word, without overlaps.
   *
   * @param {string} word
   */
  placesOf(word) {
    /** @type {WordPlace[]} */
    const places = [];
    let at = this.text.indexOf(word);
    while (at >= 0 && places.length < MAX_PLACES) {
      const [start] = this.#origin(at);
      const [, end] = this.#origin(at + word.length - 1);
      places.push({ start, end, word, isStart: beginsWord(this.text, at) });
      at = this.text.indexOf(word, at + word.length);
    }
    return places;
  }
}

/**
 * Find all places of folded words in a text.
 *
 * @param {string} text
 * @param {string[]} words
 */
export function allPlaces(text, words) {
  const folded = new Folded(text);
  return words.flatMap((word) => folded.placesOf(word));
}

/**
 * Return of each word the places that begin words, if there are any; else all of them.
 *
 * @template {WordPlace} P
 * @param {P[]} places
 */
export function bestPlaces(places) {
  const started = new Set(places.filter(({ isStart }) => isStart).map(({ word }) => word));
  return places.filter(({ isStart, word }) => isStart || !started.has(word));
}

/**
 * Find folded words in a text, in their order.
 *
 * @param {string} text
 * @param {string[]} words
 */
const findPlaces = (text, words) =>
  bestPlaces(allPlaces(text, words)).sort((a, b) => a.start - b.start || a.end - b.end);

/**
 * Return places without overlaps, in their order.
 *
 * @param {WordPlace[]} places
 */
function joined(places) {
  /** @type {Mark[]} */
  const marks = [];
  for (const { start, end } of places) {
    const last = marks.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(end, last[1]);
    else marks.push([start, end]);
  }
  return marks;
}

/**
 * Return the marks of a text that is shown as a whole.
 *
 * @param {string} text
 * @param {string[]} words
 */
export const marksOf = (text, words) => joined(findPlaces(text, words));

/**
 * Return how wide a letter is: CJK letters are as wide as two others.
 *
 * @param {string} letter
 */
export const columns = (letter) => (WIDE.test(letter) ? 2 : 1);

/**
 * Return where an excerpt begins: at a word not far before a place.
 *
 * @param {string} text
 * @param {number} start
 */
function beginning(text, start) {
  let lowest = start;
  for (let left = BEFORE; lowest > 0; ) {
    const letter = letterBefore(text, lowest);
    left -= columns(letter);
    if (left < 0) break;
    lowest -= letter.length;
  }
  while (lowest < start && JOINS.test(text.slice(lowest, lowest + 2))) lowest += letterAt(text, lowest).length;
  if (lowest === 0) return 0;
  let begun = -1;
  for (let at = lowest; at <= start; at += letterAt(text, at).length) {
    if (/\s/.test(text[at - 1])) return at;
    if (begun < 0 && at < start && LETTER.test(text.slice(at, at + 2)) && beginsWord(text, at)) begun = at;
  }
  return begun < 0 ? lowest : begun;
}

/**
 * @param {string} text
 * @param {number} start
 */
function reach(text, start) {
  let at = start;
  for (let left = AFTER; at < text.length && left > 0; ) {
    const letter = letterAt(text, at);
    left -= columns(letter);
    at += letter.length;
  }
  while (at < text.length && JOINS.test(text.slice(at, at + 2))) at += letterAt(text, at).length;
  return at;
}

/**
 * Return the place near which, and after it, most of the words are.
 *
 * @param {WordPlace[]} places
 */
function densest(places) {
  let best = 0;
  let most = 0;
  for (const [at, { start }] of places.entries()) {
    const near = new Set();
    for (let next = at; next < places.length && places[next].start < start + NEAR; next += 1)
      near.add(places[next].word);
    if (near.size > most) {
      most = near.size;
      best = start;
    }
  }
  return best;
}

/**
 * Cut an excerpt where most of the folded words are near each other; else the start.
 *
 * @param {string} text
 * @param {string[]} words
 * @returns {{ excerpt: string, matches: Mark[] }}
 */
export function excerptOf(text, words) {
  const places = findPlaces(text, words);
  const start = densest(places);
  const first = beginning(text, start);
  const last = reach(text, start);
  let excerpt = text.slice(0, first).trim() ? "…" : "";
  /** @type {Mark[]} */
  const matches = [];
  let at = first;
  /** @param {number} to */
  const add = (to) => {
    const line = text.slice(at, to).replace(/\s+/g, " ");
    excerpt += at === first ? line.trimStart() : line;
  };
  for (const [from, to] of joined(places)) {
    const [begin, end] = [Math.max(from, first), Math.min(to, last)];
    if (begin >= end) continue;
    add(begin);
    matches.push([excerpt.length, excerpt.length + end - begin]);
    excerpt += text.slice(begin, end);
    at = end;
  }
  add(last);
  return { excerpt: excerpt.trimEnd() + (text.slice(last).trim() ? "…" : ""), matches };
}
