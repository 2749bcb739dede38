// What a search has found, as components: conversations, each with the passages in it.

import { html } from "../../../vendor/preact-htm.js";
import { fill, pluralText, texts } from "../../shell/page.js";
import { columns, fold, marksOf, wordsOf } from "../search_words.js";

/** @import { ConversationRecord } from "../state/types.js" */
/** @import { Found, Hit } from "./search.js" */
/** @import { Mark } from "../search_words.js" */

const MAX_PASSAGES = 3;
/** How much of a title fits into its row, and how much of that stands before a word that is farther behind. */
const TITLE_COLUMNS = 26;
const BEFORE_COLUMNS = 8;

/**
 * What is shown of one conversation; `first`: where its title leads to, null: to its end.
 *
 * @typedef {{ id: string, title: string, first: Hit | null, passages: Hit[] }} Result
 */

/**
 * Return the conversations that were found, in the order of their hits. Until the search has ended those whose
 * titles have the words.
 *
 * @param {ConversationRecord[]} conversations
 * @param {string} wanted
 * @param {Found | null} found
 * @returns {Result[]}
 */
export function resultsOf(conversations, wanted, found) {
  const known = new Map(conversations.map((one) => [one.id, one]));
  /** @type {Map<string, Result>} */
  const results = new Map();
  const words = wordsOf(wanted);
  const isComplete = found?.query === wanted && !found.problem;
  /**
   * @param {ConversationRecord} one
   * @returns {Result}
   */
  const resultOf = ({ id, title }) => ({ id, title, first: null, passages: [] });
  if (!isComplete) {
    const titled = conversations.filter(({ title }) => {
      const folded = fold(title);
      return words.every((word) => folded.includes(word));
    });
    for (const one of titled.sort((a, b) => b.updated - a.updated)) results.set(one.id, resultOf(one));
  }
  for (const hit of isComplete ? found.hits : []) {
    const one = known.get(hit.conversation);
    if (!one) continue; // it was deleted since
    const result = results.get(one.id) ?? resultOf(one);
    if (hit.message) result.first ??= hit;
    results.set(one.id, result);
    // The title says it already, and so does a question that is the title.
    if (hit.excerpt !== one.title && hit.where !== "title") result.passages.push(hit);
  }
  return [...results.values()];
}

/**
 * Return a text with its marks.
 *
 * @param {string} text
 * @param {Mark[]} marks
 */
function marked(text, marks) {
  const ends = [0, ...marks.map(([, end]) => end)];
  return html`${marks.map(
    ([start, end], at) => html`${text.slice(ends[at], start)}<mark>${text.slice(start, end)}</mark>`,
  )}${text.slice(ends[marks.length])}`;
}

/** @param {string} text */
const width = (text) => [...text].reduce((sum, letter) => sum + columns(letter), 0);

/**
 * Return as much of a title as shows the first of its marks, from the beginning of a word, with the marks in that.
 *
 * @param {string} title
 * @param {Mark[]} marks
 * @returns {[string, Mark[]]}
 */
export function shownTitle(title, marks) {
  const [start, end] = marks[0] ?? [0, 0];
  if (width(title.slice(0, end)) <= TITLE_COLUMNS) return [title, marks];
  let from = start;
  for (const letter of [...title.slice(0, start)].reverse()) {
    if (width(title.slice(from - letter.length, start)) > BEFORE_COLUMNS) break;
    from -= letter.length;
  }
  if (!from) return [title, marks];
  const word = /(?<=\s)\S/u.exec(title.slice(from - 1, start + 1));
  if (word) from += word.index - 1;
  return [`…${title.slice(from)}`, marks.map(([begin, last]) => [begin - from + 1, last - from + 1])];
}

/**
 * A title with the words of a search marked.
 *
 * @param {{ title: string, wanted: string }} props
 */
export const MarkedTitle = ({ title, wanted }) => marked(...shownTitle(title, marksOf(title, wordsOf(wanted))));

/** @param {{ hit: Hit, open: (hit: Hit) => void }} props */
export function Passage({ hit, open }) {
  const { excerpt, matches, conversation, where, file, role } = hit;
  const isInFile = where === "file" && file !== null && file !== excerpt;
  /** @param {MouseEvent} event */
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(hit);
  };
  const labels = {
    title: "{text}",
    text: role === "user" ? texts.sidebar.in_question : texts.sidebar.in_answer,
    system: texts.sidebar.in_system_prompt,
    file: texts.sidebar.in_file,
  };
  const [before, after] = (isInFile ? "{text}" : labels[where]).split("{text}");
  return html`<a class="passage" href=${`/c/${conversation}`} onClick=${go}
    >${isInFile && html`<span class="clip file-name">${fill(texts.sidebar.in_file_named, { file })}</span>`}
    <span class="excerpt">${before}<bdi>${marked(excerpt, matches)}</bdi>${after}</span></a>`;
}

/** @param {{ result: Result, open: (hit: Hit) => void }} props */
export function Passages({ result, open }) {
  const more = result.passages.length - MAX_PASSAGES;
  return html`${result.passages
    .slice(0, MAX_PASSAGES)
    .map((hit) => html`<${Passage} key=${hit.message ?? hit.where} hit=${hit} open=${open} />`)}
    ${more > 0 && html`<span class="passage quiet">${pluralText(texts.sidebar.more_passages, more)}</span>`}`;
}
