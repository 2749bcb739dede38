// A passage that a search has found: brought into view, its words marked.

import { allPlaces, bestPlaces } from "../search_words.js";

/** @import { Passage } from "../state/types.js" */

/** The name of the marks in the style sheet. */
const MARKS = "found";
/** What a message has as text: its own, and the names of its files. */
const TEXTS = ".md, .said, .files .name";

/**
 * Return where the words stand in the texts of a message, in their order.
 *
 * @param {Element} article
 * @param {string[]} words
 */
function rangesOf(article, words) {
  const places = [...article.querySelectorAll(TEXTS)].flatMap((text) => {
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const node = /** @type {Text} */ (walker.currentNode);
      found.push(...allPlaces(node.data, words).map((place) => ({ ...place, node })));
    }
    return found;
  });
  const ranges = bestPlaces(places).map(({ node, start, end }) => {
    const range = new Range();
    range.setStart(node, start);
    range.setEnd(node, end);
    return range;
  });
  return ranges.sort((a, b) => a.compareBoundaryPoints(Range.START_TO_START, b));
}

/**
 * Return the name of a file on its card, once the cards are there; undefined without one.
 *
 * @param {Element} article
 * @param {string} file
 */
async function nameOf(article, file) {
  const cards = article.querySelector(".files");
  if (cards && !cards.childElementCount) {
    await new Promise((resolve) => {
      new MutationObserver((_, watch) => {
        watch.disconnect();
        resolve(null);
      }).observe(cards, { childList: true });
    });
  }
  return [...(cards?.querySelectorAll(".name") ?? [])].find(({ textContent }) => textContent === file);
}

/**
 * Show a message of the transcript and mark the words in it. Browsers without highlights only show it.
 *
 * @param {HTMLElement} transcript
 * @param {Passage} passage
 */
export async function showPassage(transcript, { message, words, file }) {
  /** @type {HTMLElement | null} */
  const article = transcript.querySelector(`[data-id="${CSS.escape(message)}"]`);
  if (!article) return;
  show(article, article);
  article.tabIndex = -1;
  article.focus({ preventScroll: true });
  // The words may be in a file: its name stands for them.
  const name = file === null ? undefined : await nameOf(article, file);
  const ranges = rangesOf(article, words);
  if (name) {
    const range = new Range();
    range.selectNodeContents(name);
    ranges.unshift(range);
  }
  if (CSS.highlights && ranges.length) CSS.highlights.set(MARKS, new Highlight(...ranges));
  show(article, name ?? ranges[0]?.startContainer.parentElement ?? article);
}

/**
 * Bring a part of a message into view.
 *
 * @param {HTMLElement} article
 * @param {Element} marked
 */
function show(article, marked) {
  if (!article.isConnected) return;
  marked.scrollIntoView({ block: "center" });
  // Rows above were measured by estimate: the place is known once they are laid out.
  requestAnimationFrame(() => marked.scrollIntoView({ block: "center" }));
}
