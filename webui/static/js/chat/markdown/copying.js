// Copying from answers: rich text and Markdown for a whole answer, tab-separated values for a table, TeX
// for a formula, and clean text for what is selected by hand.
//
// Safari allows the clipboard only within the event of the click: nothing is awaited before it is used.

import { confirmCopied, copyFrom } from "../../shell/clipboard.js";
import { el } from "../../shell/page.js";

/**
 * What is copied: `text` always, `html` for programs that take formatted text.
 *
 * @typedef {{ text: string, html?: string }} Copy
 */

/** Attributes that formatted text keeps. */
const KEPT = ["href", "src", "alt", "start", "dir", "open"];
/** What formulas may stand in as parts of a line. */
const LINES = "p, td, th, h3, h4, h5, h6, summary";
const DROPPED = "button, .unseen, .code figcaption, svg, .remote-image";
/** Stands for the ends of lines that must stay as they are. */
const LINE_END = "\u2028";
const BLOCKS = new Set(
  "P DIV H1 H2 H3 H4 H5 H6 UL OL LI PRE TABLE TR BLOCKQUOTE FIGURE HR DETAILS SUMMARY ARTICLE SECTION".split(" "),
);

/**
 * Put something on the clipboard and confirm it on the button; where the browser refuses, the text is
 * shown ready for Ctrl+C.
 *
 * @param {HTMLElement} button
 * @param {Copy} copy
 */
export async function copyRich(button, { text, html }) {
  if (html === undefined) return copyFrom(button, text);
  try {
    const items = { "text/plain": blob(text, "text/plain"), "text/html": blob(html, "text/html") };
    await navigator.clipboard.write([new ClipboardItem(items)]);
    confirmCopied(button);
  } catch {
    // Not a secure context, or not allowed: the old way.
    if (copyByEvent({ text, html })) confirmCopied(button);
    else await copyFrom(button, text);
  }
}

/**
 * @param {string} text
 * @param {string} type
 */
const blob = (text, type) => new Blob([text], { type });

/**
 * Copy by the event of the old command, which also works on plain http. Returns false where it did not.
 *
 * @param {Required<Copy>} copy
 */
function copyByEvent(copy) {
  let done = false;
  /** @param {ClipboardEvent} event */
  const fill = (event) => {
    event.stopImmediatePropagation();
    done = fillClipboard(event, copy);
  };
  document.addEventListener("copy", fill, { capture: true });
  try {
    return document.execCommand("copy") && done;
  } finally {
    document.removeEventListener("copy", fill, { capture: true });
  }
}

/**
 * @param {ClipboardEvent} event
 * @param {Required<Copy>} copy
 */
function fillClipboard(event, { text, html }) {
  if (!event.clipboardData) return false;
  event.clipboardData.setData("text/plain", text);
  event.clipboardData.setData("text/html", html);
  event.preventDefault();
  return true;
}

/**
 * Copy an answer: its Markdown, and what is shown of it as formatted text.
 *
 * @param {HTMLElement} button
 * @param {string} markdown
 * @param {Element | null} shown
 */
export const copyAnswer = (button, markdown, shown) =>
  copyRich(button, { text: markdown, html: shown ? htmlOf(shown) : undefined });

/**
 * Copy a table: as values for a spreadsheet, and as formatted text.
 *
 * @param {HTMLElement} button
 * @param {HTMLTableElement} table
 */
export const copyTable = (button, table) => copyRich(button, { text: valuesOf(table), html: htmlOf(table, true) });

/**
 * Return the cells of a table, separated by tabs and lines.
 *
 * @param {HTMLTableElement} table
 */
function valuesOf(table) {
  const rows = [...table.rows].map((row) => [...row.cells].map(cellText).join("\t"));
  return `${rows.join("\n")}\n`;
}

/**
 * Return the text of a cell in the quotes that spreadsheets want around lines, tabs and quotes.
 *
 * @param {Element} cell
 */
function cellText(cell) {
  const text = textOf(clean(cell));
  return /["\t\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Return formatted text for other programs: what is shown, without the page's own classes and buttons.
 *
 * @param {Element} shown
 * @param {boolean} [itself]
 */
function htmlOf(shown, itself = false) {
  const copy = clean(shown);
  const holder = el("div");
  if (itself && copy instanceof Element) holder.append(copy);
  else holder.append(...copy.childNodes);
  for (const node of holder.querySelectorAll("*")) {
    const align = node.getAttribute("data-align");
    for (const { name, value } of [...node.attributes]) {
      if (!KEPT.includes(name) || value === "ltr") node.removeAttribute(name);
    }
    if (align) node.setAttribute("align", align);
  }
  // Boxes that only place what they hold: a table, code, the colours in it.
  for (const box of holder.querySelectorAll("div, figure, span")) box.replaceWith(...box.childNodes);
  return new XMLSerializer().serializeToString(holder).replace(' xmlns="http://www.w3.org/1999/xhtml"', "");
}

/**
 * Return a copy of a node in which formulas are their source and nothing is left to press.
 *
 * @template {Element | DocumentFragment} T
 * @param {T} shown
 * @returns {T}
 */
function clean(shown) {
  const copy = /** @type {T} */ (shown.cloneNode(true));
  for (const formula of copy.querySelectorAll(".math[data-tex]")) {
    const tex = formula.getAttribute("data-tex") ?? "";
    const display = formula.classList.contains("display");
    const source = display ? `$$${tex}$$` : `$${tex}$`;
    formula.replaceWith(display && !formula.closest(LINES) ? el("p", {}, source) : source);
  }
  for (const box of copy.querySelectorAll("input[type=checkbox]"))
    box.replaceWith(box.hasAttribute("checked") ? "☑ " : "☐ ");
  for (const extra of copy.querySelectorAll(DROPPED)) extra.remove();
  return copy;
}

/**
 * Listen to copying by hand in `root`: formulas are copied as TeX, and formatted text has no colours of
 * the page.
 *
 * @param {HTMLElement} root
 */
export function listenToCopy(root) {
  root.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (!selection || selection.isCollapsed || event.target instanceof HTMLTextAreaElement) return;
    const range = selection.getRangeAt(0);
    const around = range.commonAncestorContainer;
    const place = around instanceof Element ? around : around.parentElement;
    if (place?.closest("pre, code, .said, input, textarea")) return; // the browser's own text is exact
    const chosen = range.cloneRange();
    for (const [edge, set] of EDGES) {
      const node = chosen[edge];
      const formula = (node instanceof Element ? node : node.parentElement)?.closest(".math[data-tex]");
      if (formula) chosen[set](formula);
    }
    const copy = clean(chosen.cloneContents());
    const holder = el("div");
    holder.append(copy);
    fillClipboard(event, { text: textOf(holder).trim(), html: htmlOf(holder) });
  });
}

/** @type {["startContainer" | "endContainer", "setStartBefore" | "setEndAfter"][]} */
const EDGES = [
  ["startContainer", "setStartBefore"],
  ["endContainer", "setEndAfter"],
];

/**
 * Return the text of nodes as a reader would type it: blocks in lines of their own, items with marks.
 *
 * @param {Node} node
 */
export function textOf(node) {
  return written(node)
    .replace(/\n{3,}/g, "\n\n")
    .replace(/^\n+|\n+$/g, "")
    .replaceAll(LINE_END, "\n");
}

/**
 * @param {Node} node
 * @returns {string}
 */
function written(node) {
  if (node instanceof Text) return node.data.replace(/\s*\n\s*/g, " ");
  if (node instanceof HTMLBRElement) return "\n";
  if (node instanceof Element && node.matches("pre, .said")) {
    return `\n\n${node.textContent.replaceAll("\n", LINE_END)}\n\n`;
  }
  const inner = [...node.childNodes].map(written).join("");
  if (node instanceof HTMLTableCellElement) return node.nextElementSibling ? `${inner}\t` : inner;
  if (node instanceof HTMLTableRowElement) return `${inner}\n`;
  if (node instanceof HTMLLIElement) return `${markOf(node)}${inner.trim().replace(/\n+/g, "\n  ")}\n`;
  if (!BLOCKS.has(node.nodeName)) return inner;
  const lines = inner.replace(/^\n+|\n+$/g, "");
  return node.nodeName === "DIV" ? `\n${lines}\n` : `\n\n${lines}\n\n`;
}

/** @param {HTMLLIElement} item */
function markOf(item) {
  const list = item.parentElement;
  if (!(list instanceof HTMLOListElement)) return "- ";
  return `${list.start + [...list.children].indexOf(item)}. `;
}
