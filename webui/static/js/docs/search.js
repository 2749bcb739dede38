// Search in the documentation: over sections, examples, programs, routes and the rows of tables, as they
// stand on the page.

import { announce, isComposing, language, part, pluralText, texts } from "../shell/page.js";

const MAX_MATCHES = 12;
/** Words that say nothing here: a place is found without them. */
const GENERAL = new Set(["api", "openai"]);
const EXCERPT_LETTERS = 90;
/** Elements inside a line of text. */
const PHRASING = "a, abbr, b, bdi, code, em, i, kbd, mark, span, strong, sub, sup, time, wbr";

/**
 * One place that can be found.
 *
 * @typedef {object} Place
 * @property {HTMLElement} node
 * @property {string} title
 * @property {string} section the title of the section it is in
 * @property {string} text
 */

const box = part("#find", HTMLInputElement);
const found = part("#found", HTMLOListElement);

/** @param {string} text */
const plain = (text) => text.replace(/\s+/g, " ").trim();

/**
 * Return a text without what people leave out when they search: capitals, accents, the width of letters.
 * The marks of kana stay, since they make other letters.
 *
 * @param {string} text
 */
const folded = (text) =>
  text
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .normalize("NFC")
    .toLocaleLowerCase(language);

const segmenter = new Intl.Segmenter(language, { granularity: "word" });
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
const PARTICLE = /^\p{Script=Hiragana}{1,2}$/u;

/**
 * Return the words of a query. Japanese has no spaces between words, and its particles need not be found.
 *
 * @param {string} query
 */
function wordsOf(query) {
  const words = folded(query).split(/\s+/).filter(Boolean);
  return words.flatMap((word) => {
    if (!UNSPACED.test(word)) return [word];
    const parts = [...segmenter.segment(word)].filter((one) => one.isWordLike).map((one) => one.segment);
    const kept = parts.filter((one) => !PARTICLE.test(one));
    return kept.length ? kept : [word];
  });
}

/**
 * @param {string} selector
 * @param {ParentNode} root
 */
const textOf = (selector, root) => plain(root.querySelector(selector)?.textContent ?? "");

/**
 * Return the text of a node, with a space between blocks: there they stand below each other.
 *
 * @param {Node} node
 * @returns {string}
 */
function spacedText(node) {
  if (node instanceof Text) return node.data;
  const text = [...node.childNodes].map(spacedText).join("");
  return node instanceof Element && !node.matches(PHRASING) ? ` ${text} ` : text;
}

/**
 * Return the name of a program or an example, the method and path of a route, or the first cells of a row.
 *
 * @param {HTMLElement} node
 */
function titleOf(node) {
  if (node.matches("details")) return plain(`${textOf("summary > b", node)} ${textOf("summary > code", node)}`);
  if (!(node instanceof HTMLTableRowElement)) return textOf("figcaption", node);
  const [first, second] = titleCells(node);
  return [first, second].map((cell) => plain(cell?.textContent ?? "")).join(" · ");
}

/**
 * Return the cells of a row that name it: an error has its code after its status and its type.
 *
 * @param {HTMLTableRowElement} row
 */
function titleCells({ cells }) {
  const isError = /^\d{3}$/.test(plain(cells[0]?.textContent ?? ""));
  const hasCode = plain(cells[2]?.textContent ?? "") !== "null";
  return isError && hasCode ? [cells[2], cells[0]] : [cells[0], cells[1]];
}

/**
 * Return the text of a place besides its title.
 *
 * @param {HTMLElement} node
 * @param {string} title
 */
function textBesides(node, title) {
  const text = plain(spacedText(node));
  if (!(node instanceof HTMLTableRowElement)) return text.startsWith(title) ? text.slice(title.length).trim() : text;
  const named = titleCells(node);
  const rest = [...node.cells].filter((cell) => !named.includes(cell));
  return plain(rest.map(spacedText).join(" · "));
}

/** @returns {Place[]} */
function places() {
  /** @type {Place[]} */
  const all = [];
  for (const topic of document.querySelectorAll(".topic")) {
    if (!(topic instanceof HTMLElement)) continue;
    const section = textOf("h2", topic).replace(/#$/, "").trim();
    const prose = [...topic.querySelectorAll(".prose > :not(h2)")].map(spacedText).join(" ");
    all.push({ node: topic, title: section, section: "", text: plain(prose) });
    for (const node of topic.querySelectorAll("tbody tr, figure.example, details.route")) {
      if (!(node instanceof HTMLElement) || node.closest("details.route") !== closestRoute(node)) continue;
      const title = titleOf(node);
      if (title) all.push({ node, title, section, text: textBesides(node, title) });
    }
  }
  return all;
}

/**
 * Return the route or program that a node is, or null for the rest; what lies inside one is found with it.
 *
 * @param {HTMLElement} node
 */
const closestRoute = (node) => (node.matches("details.route") ? node : null);

/** @type {Place[] | null} */
let known = null;

/** The rank of a place that was not found. */
const NOWHERE = 3;

/**
 * Return how well a place fits: 0 and 1 for all words in its title, 2 for all words in its text.
 *
 * @param {Place} place
 * @param {string[]} words
 */
function rankOf({ title, section, text }, words) {
  const heading = folded(title);
  if (words.every((word) => heading.includes(word))) return section ? 1 : 0;
  const whole = folded(`${title} ${section} ${text}`);
  return words.every((word) => whole.includes(word)) ? 2 : NOWHERE;
}

/**
 * Return the places with all words of a query: those with the words in their titles first, and last those
 * that lack a word like "API", which the whole page is about.
 *
 * @param {string} query
 */
function search(query) {
  known ??= places();
  const words = wordsOf(query);
  if (!words.length) return [];
  const telling = words.filter((word) => !GENERAL.has(word));
  const ranked = known.flatMap((place) => {
    const rank = rankOf(place, words);
    if (rank < NOWHERE) return [{ place, rank }];
    const less = telling.length ? rankOf(place, telling) : NOWHERE;
    return less < NOWHERE ? [{ place, rank: NOWHERE + less }] : [];
  });
  return ranked.sort((a, b) => a.rank - b.rank).map(({ place }) => place);
}

/**
 * Return the part of a place's text around the first word of a query that its title does not have.
 *
 * @param {Place} place
 * @param {string} query
 */
function excerpt({ title, text }, query) {
  const words = wordsOf(query);
  const heading = folded(title);
  const found = folded(text).indexOf(words.find((word) => !heading.includes(word)) ?? words[0] ?? "");
  const at = Math.max(0, found - EXCERPT_LETTERS / 3);
  const space = at ? text.indexOf(" ", at) : -1;
  const start = space >= 0 && space < found ? space + 1 : at;
  const end = start + EXCERPT_LETTERS;
  return `${start ? "…" : ""}${text.slice(start, end)}${end < text.length ? "…" : ""}`;
}

/** @param {Place} place */
function go({ node }) {
  for (let at = node.closest("details"); at; at = at.parentElement?.closest("details") ?? null) at.open = true;
  const id = node.id || node.closest("[id]")?.id;
  if (id) history.pushState(null, "", `#${id}`);
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "start" });
  close();
}

function close() {
  found.hidden = true;
  found.replaceChildren();
}

/**
 * @param {Place} place
 * @param {string} query
 */
function row(place, query) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `#${place.node.id || (place.node.closest("[id]")?.id ?? "")}`;
  const title = document.createElement("b");
  title.textContent = place.title;
  const where = document.createElement("span");
  where.className = "quiet small";
  where.textContent = place.section;
  const words = document.createElement("span");
  words.className = "small";
  words.textContent = excerpt(place, query);
  link.append(title, " ", where, words);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    go(place);
  });
  item.append(link);
  return item;
}

function show() {
  const query = box.value.trim();
  if (!query) {
    close();
    return;
  }
  const matches = search(query);
  found.hidden = false;
  found.replaceChildren(...matches.slice(0, MAX_MATCHES).map((place) => row(place, query)));
  if (!matches.length) {
    const none = document.createElement("li");
    none.className = "quiet";
    none.textContent = texts.docs.no_matches_hint;
    found.append(none);
  }
  announce(matches.length ? pluralText(texts.docs.match_count, matches.length) : texts.docs.no_matches);
}

box.addEventListener("input", show);
box.addEventListener("keydown", (event) => {
  if (isComposing(event)) return;
  const first = found.querySelector("a");
  if (event.key === "Enter") first?.click();
  else if (event.key === "ArrowDown") first?.focus();
  else return;
  event.preventDefault();
});
found.addEventListener("keydown", (event) => {
  const links = [...found.querySelectorAll("a")];
  const at = links.findIndex((link) => link.matches(":focus"));
  if (event.key === "ArrowDown") links[at + 1]?.focus();
  else if (event.key === "ArrowUp") (links[at - 1] ?? box).focus();
  else return;
  event.preventDefault();
});
const frame = part(".find", HTMLElement);
frame.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  box.value = "";
  close();
  box.focus();
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  box.focus();
});
frame.hidden = false;
