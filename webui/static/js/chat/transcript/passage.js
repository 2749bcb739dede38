// A passage that a search has found: brought into view, its words marked.

/** The name of the marks in the style sheet. */
const MARKS = "found";

/**
 * Return where the words stand in the text of an element.
 *
 * @param {Element} root
 * @param {string[]} words
 */
function rangesOf(root, words) {
  /** @type {Range[]} */
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = /** @type {Text} */ (walker.currentNode);
    const text = node.data.toLowerCase();
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
      }
    }
  }
  return ranges.sort((a, b) => a.compareBoundaryPoints(Range.START_TO_START, b));
}

/**
 * Show a message of the transcript and mark the words in it. Browsers without highlights only show it.
 *
 * @param {HTMLElement} transcript
 * @param {string} id of the message
 * @param {string[]} words
 */
export function showPassage(transcript, id, words) {
  /** @type {HTMLElement | null} */
  const article = transcript.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (!article) return;
  const text = article.querySelector(".md, .said") ?? article;
  const ranges = rangesOf(text, words);
  if (CSS.highlights && ranges.length) CSS.highlights.set(MARKS, new Highlight(...ranges));
  const marked = ranges[0]?.startContainer.parentElement ?? article;
  marked.scrollIntoView({ block: "center" });
  article.tabIndex = -1;
  article.focus({ preventScroll: true });
  // Rows above were measured by estimate: the place is known once they are laid out.
  requestAnimationFrame(() => marked.scrollIntoView({ block: "center" }));
}
