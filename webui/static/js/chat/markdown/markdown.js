// Blocks of Markdown to DOM nodes: a lexer finds the tokens, this makes elements of them. No HTML string
// is ever made, so nothing that a model writes can become an element that is not named here.

import { el, icon, iconButton, texts } from "../../shell/page.js";
import { codeBlock } from "./code.js";
import { copyTable } from "./copying.js";
import { cellDirection, direction } from "./direction.js";
import { checkbox, inline } from "./inline.js";
import { formulaOf, math, openMath } from "./math.js";

/** @import { Cell, Item, Token } from "../../../vendor/marked.js" */

/**
 * What the blocks of a text pass on to each other: the headings that are open, outermost first, and whether
 * they stand inside a block that is right-to-left. `depth` counts the # of a heading.
 *
 * @typedef {{ headings: readonly { depth: number, level: number }[], rtl: boolean }} Context
 */

const LAST_LEVEL = 6;
/** Turns have headings of level 2, so those of an answer begin below. */
const FIRST_LEVEL = 3;
/** @type {Record<string, string>} */
const CALLOUT_ICONS = {
  note: "circle-alert",
  tip: "zap",
  important: "circle-alert",
  warning: "triangle-alert",
  danger: "triangle-alert",
};

/**
 * Return the context at the beginning of a text.
 *
 * @returns {Context}
 */
export const newContext = () => ({ headings: [], rtl: false });

/** @param {Token} token */
export const isShown = (token) => token.type !== "space";

/**
 * Return the node of a block: a comment where it shows nothing.
 *
 * @param {Token} token
 * @param {Context} context
 * @returns {ChildNode}
 */
export function renderBlock(token, context) {
  const make = BLOCKS[token.type];
  const node = make ? make(token, context) : paragraph(token, context);
  return node ?? document.createComment("");
}

/** @type {Record<string, (token: Token, context: Context) => HTMLElement | null>} */
const BLOCKS = {
  def: () => null,
  comment: () => null,
  hr: () => el("hr"),
  heading: (token, context) => {
    const level = levelOf(token.depth, context);
    return inline(el(/** @type {"h3"} */ (`h${level}`), { dir: direction(token.text, context.rtl) }), token.tokens);
  },
  blockquote: (token, context) => {
    const dir = direction(token.text, context.rtl);
    return blocksInto(el("blockquote", { dir }), token.tokens, within(context, dir), context);
  },
  callout: renderCallout,
  details: renderDetails,
  code: renderCode,
  html: (token) => el("p", { class: "raw" }, token.raw.trimEnd()),
  list: renderList,
  table: renderTable,
  math: (token) => (token.closed === false ? openMath(token.tex) : math(token.tex, true, token.raw)),
  footnote: (token, context) => {
    const dir = direction(token.text, context.rtl);
    return inline(el("p", { class: "footnote", dir }, `[${token.label}] `), token.tokens);
  },
};

/**
 * Return the level of a heading, and open it. No level is left out, and siblings have the same one.
 *
 * @param {number} depth
 * @param {Context} context
 */
function levelOf(depth, context) {
  const open = context.headings.filter((heading) => heading.depth <= depth);
  const last = open.at(-1);
  if (last?.depth !== depth) {
    const highest = (last?.level ?? FIRST_LEVEL - 1) + 1;
    open.push({ depth, level: Math.min(depth + FIRST_LEVEL - 1, highest, LAST_LEVEL) });
  }
  context.headings = open;
  return open[open.length - 1].level;
}

/**
 * Return the context of what stands inside a block with this direction.
 *
 * @param {Context} context
 * @param {string | null} dir
 */
export const within = (context, dir) => ({ ...context, rtl: context.rtl || dir === "rtl" });

/**
 * Append the nodes of blocks: one for each that is shown.
 *
 * @template {HTMLElement} T
 * @param {T} parent
 * @param {Token[] | undefined} tokens
 * @param {Context} context of the blocks
 * @param {Context} around gets the open headings
 */
function blocksInto(parent, tokens, context, around) {
  for (const token of tokens ?? []) if (isShown(token)) parent.append(renderBlock(token, context));
  around.headings = context.headings;
  return parent;
}

/**
 * @param {Token} token
 * @param {Context} context
 */
const paragraph = (token, { rtl }) =>
  inline(el("p", { dir: direction(token.text ?? token.raw, rtl) }), token.tokens ?? [token]);

/**
 * True if a token's block is complete, so that more text would not change it.
 *
 * @param {Token} token
 */
export function isClosed(token) {
  if (token.closed !== undefined) return token.closed;
  if (token.type !== "code" || token.codeBlockStyle === "indented") return true;
  const fence = /^ {0,3}(`{3,}|~{3,})/.exec(token.raw);
  if (!fence) return true;
  const closing = new RegExp(`\\n {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*\\n*$`);
  return closing.test(token.raw);
}

/**
 * True if a token's block and the last one inside it are complete.
 *
 * @param {Token} token
 * @returns {boolean}
 */
export function isSettled(token) {
  const inner = (token.items ? token.items.at(-1)?.tokens : token.tokens)?.at(-1);
  return isClosed(token) && (!inner || isSettled(inner));
}

/** @param {Token} token */
function renderCode(token) {
  const closed = isClosed(token);
  const tex = closed ? formulaOf(token.lang ?? "", token.text) : null;
  return tex === null ? codeBlock(token.text, token.lang ?? "", closed) : math(tex, true);
}

/**
 * @param {Token} token
 * @param {Context} context
 */
function renderCallout(token, context) {
  const { kind, label } = token;
  const dir = direction(token.text, context.rtl);
  const title = el("p", { class: "callout-title" }, icon(CALLOUT_ICONS[kind]), el("strong", {}, label));
  const body = blocksInto(el("div"), token.tokens, within(context, dir), context);
  return el("blockquote", { class: "callout", "data-kind": kind, dir }, title, body);
}

/**
 * Return a details element. Until its end has come it is open, so that its text can be read as it comes.
 *
 * @param {Token} token
 * @param {Context} context
 */
function renderDetails(token, context) {
  const summary = inline(el("summary"), token.head);
  const dir = direction(token.text, context.rtl);
  const body = blocksInto(el("div"), token.tokens, within(context, dir), context);
  return el("details", { class: "fold", open: !token.closed, dir }, summary, body);
}

/**
 * @param {Token} token
 * @param {Context} context
 */
function renderList(token, context) {
  const start = token.ordered && token.start !== 1 && token.start !== "" ? token.start : null;
  const dir = direction(token.raw, context.rtl);
  const list = el(token.ordered ? "ol" : "ul", { start, dir });
  const inside = within(context, dir);
  for (const item of token.items) list.append(renderItem(item, inside));
  context.headings = inside.headings;
  return list;
}

/**
 * Return one item of a list.
 *
 * @param {Item} item
 * @param {Context} context
 */
export function renderItem(item, context) {
  const dir = direction(item.text, context.rtl);
  const node = el("li", { class: item.task ? "task" : null, dir });
  const inside = within(context, dir);
  for (const token of item.tokens) {
    if (token.type === "checkbox") node.append(checkbox(token.checked));
    else if (token.type === "text") inline(node, token.tokens ?? [token]);
    else blocksInto(node, [token], inside, context);
  }
  return node;
}

/**
 * @param {Token} token
 * @param {Context} context
 */
function renderTable(token, context) {
  const dir = direction(token.raw, context.rtl);
  const { rtl } = within(context, dir);
  const body = el("tbody");
  for (const row of token.rows) body.append(renderRow(row, "td", rtl));
  const head = el("thead", {}, renderRow(token.header, "th", rtl));
  const table = el("table", { dir: rtl ? "rtl" : null }, head, body);
  const copy = iconButton("copy", texts.markdown.copy_table);
  copy.addEventListener("click", () => copyTable(copy, table));
  const box = el("div", { class: "table", tabindex: "0", role: "group", "aria-label": texts.markdown.table }, table);
  return el("div", { class: "table-box" }, box, copy);
}

/**
 * Return one row of a table.
 *
 * @param {Cell[]} cells
 * @param {"td" | "th"} tag
 * @param {boolean} rtl the table is right-to-left
 */
export function renderRow(cells, tag, rtl) {
  const row = el("tr");
  for (const cell of cells) {
    const scope = tag === "th" ? "col" : null;
    row.append(inline(el(tag, { "data-align": cell.align, scope, dir: cellDirection(cell.text, rtl) }), cell.tokens));
  }
  return row;
}
