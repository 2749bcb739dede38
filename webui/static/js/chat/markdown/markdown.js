// Markdown to DOM nodes: marked finds the tokens, this makes elements of them. No HTML string is
// ever made, so nothing that a model writes can become an element that is not named here.

import { getDefaults, Lexer } from "../../../vendor/marked.js";
import { el } from "../../shell/page.js";
import { codeBlock } from "./code.js";
import { decode } from "./entities.js";
import { math } from "./math.js";

/** @import { Cell, Item, Links, Token, TokenizerThis } from "../../../vendor/marked.js" */

/**
 * What the blocks of a text pass on to each other: the level of the last heading.
 *
 * @typedef {{ level: number }} Context
 */

const SAFE_SCHEMES = ["http:", "https:", "mailto:"];
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,[\w+/=]+$/i;
const PLAIN_TAG = /^<(\/?)(sub|sup|kbd|mark|ins|small|u|b|i)>$/i;
const LINE_BREAK = /^<br\s*\/?>$/i;
/** Right-to-left where the words are. */
const AUTO = { dir: "auto" };
const LAST_LEVEL = 6;
/** Turns have headings of level 2, so those of an answer begin below. */
const FIRST_LEVEL = 3;

const BLOCK_MATH = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/;
const INLINE_MATH = /^(?:\$\$([^\n]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\))/;
const FOOTNOTE = /^ {0,3}\[\^([^\]\s]{1,40})\]:[ \t]*([^\n]*(?:\n(?!\s*\n|\s{0,3}\[\^)[^\n]+)*)(?:\n|$)/;
const FOOTNOTE_MARK = /^\[\^([^\]\s]{1,40})\]/;

/** @param {string} source */
function blockMath(source) {
  const found = BLOCK_MATH.exec(source);
  if (!found) return undefined;
  return { type: "math", raw: found[0], tex: (found[1] ?? found[2]).trim(), display: true };
}

/** @param {string} source */
function inlineMath(source) {
  const found = INLINE_MATH.exec(source);
  if (!found) return undefined;
  const [raw, dollars, brackets, parens] = found;
  const tex = (dollars ?? brackets ?? parens).trim();
  return tex ? { type: "math", raw, tex, display: parens === undefined } : undefined;
}

/**
 * @this {TokenizerThis}
 * @param {string} source
 */
function footnote(source) {
  const found = FOOTNOTE.exec(source);
  if (!found) return undefined;
  /** @type {Token[]} */
  const tokens = [];
  this.lexer.inline(found[2], tokens);
  return { type: "footnote", raw: found[0], label: found[1], tokens };
}

/** @param {string} source */
function footnoteMark(source) {
  const found = FOOTNOTE_MARK.exec(source);
  return found ? { type: "footnoteMark", raw: found[0], label: found[1] } : undefined;
}

const OPTIONS = {
  ...getDefaults(),
  gfm: true,
  extensions: {
    block: [blockMath, footnote],
    inline: [inlineMath, footnoteMark],
    startBlock: [(/** @type {string} */ source) => source.search(/\n {0,3}(?:\$\$|\\\[)/) + 1 || undefined],
    startInline: [(/** @type {string} */ source) => nonNegative(source.search(/\$\$|\\[[(]|\[\^/))],
    childTokens: {},
    renderers: {},
  },
};

/** @param {number} index */
const nonNegative = (index) => (index < 0 ? undefined : index);

/**
 * Return the blocks of a text. `links` are the link definitions known from before it.
 *
 * @param {string} text
 * @param {Links} [links]
 */
export function lex(text, links = {}) {
  const lexer = new Lexer(OPTIONS);
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  return { blocks: tokens, links: lexer.tokens.links };
}

/**
 * Return the context at the beginning of a text.
 *
 * @returns {Context}
 */
export const newContext = () => ({ level: FIRST_LEVEL - 1 });

/**
 * Return the node of a block, or null where it shows nothing.
 *
 * @param {Token} token
 * @param {Context} context
 * @returns {HTMLElement | null}
 */
export function renderBlock(token, context) {
  const make = BLOCKS[token.type];
  if (make) return make(token, context);
  return token.tokens ? inline(el("p", AUTO), token.tokens) : el("p", {}, token.raw ?? "");
}

/** @type {Record<string, (token: Token, context: Context) => HTMLElement | null>} */
const BLOCKS = {
  space: () => null,
  def: () => null,
  hr: () => el("hr"),
  paragraph: (token) => inline(el("p", AUTO), token.tokens),
  heading: (token, context) => {
    const level = Math.min(token.depth + FIRST_LEVEL - 1, context.level + 1, LAST_LEVEL);
    context.level = level;
    return inline(el(/** @type {"h3"} */ (`h${level}`), AUTO), token.tokens);
  },
  blockquote: (token, context) => blocksInto(el("blockquote"), token.tokens ?? [], context),
  code: (token) => codeBlock(token.text, token.lang ?? "", isClosed(token)),
  html: (token) => el("p", { class: "raw" }, token.raw.trimEnd()),
  list: renderList,
  table: renderTable,
  math: (token) => math(token.tex, true),
  text: (token) => inline(el("p", AUTO), token.tokens ?? [token]),
  footnote: (token) => inline(el("p", { class: "footnote", ...AUTO }, `[${token.label}] `), token.tokens),
};

/**
 * @template {HTMLElement} T
 * @param {T} parent
 * @param {Token[]} tokens
 * @param {Context} context
 */
function blocksInto(parent, tokens, context) {
  for (const token of tokens) {
    const node = renderBlock(token, context);
    if (node) parent.append(node);
  }
  return parent;
}

/**
 * True if a code token is complete; indented code always is.
 *
 * @param {Token} token
 */
export function isClosed(token) {
  if (token.codeBlockStyle === "indented") return true;
  const fence = /^ {0,3}(`{3,}|~{3,})/.exec(token.raw);
  if (!fence) return true;
  const closing = new RegExp(`\\n {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*\\n*$`);
  return closing.test(token.raw);
}

/**
 * @param {Token} token
 * @param {Context} context
 */
function renderList(token, context) {
  const start = token.ordered && token.start !== 1 && token.start !== "" ? token.start : null;
  const list = el(token.ordered ? "ol" : "ul", { start, ...AUTO });
  for (const item of token.items) list.append(renderItem(item, context));
  return list;
}

/**
 * Return one item of a list.
 *
 * @param {Item} item
 * @param {Context} context
 */
export function renderItem(item, context) {
  const node = el("li", { class: item.task ? "task" : null });
  for (const token of item.tokens) {
    if (token.type === "checkbox") node.append(checkbox(token.checked));
    else if (token.type === "text") inline(node, token.tokens ?? [token]);
    else if (token.type === "paragraph") node.append(renderParagraph(token));
    else blocksInto(node, [token], context);
  }
  return node;
}

/**
 * Return a paragraph of a loose item; its check box may be inside.
 *
 * @param {Token} token
 */
function renderParagraph(token) {
  return inline(el("p", AUTO), token.tokens);
}

/** @param {boolean} checked */
function checkbox(checked) {
  const label = checked ? "done" : "not done";
  return el("input", { type: "checkbox", disabled: true, checked, "aria-label": label });
}

/** @param {Token} token */
function renderTable(token) {
  const body = el("tbody");
  for (const row of token.rows) body.append(renderRow(row, "td"));
  const head = el("thead", {}, renderRow(token.header, "th"));
  const table = el("table", {}, head, body);
  return el("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

/**
 * Return one row of a table.
 *
 * @param {Cell[]} cells
 * @param {"td" | "th"} tag
 */
export function renderRow(cells, tag) {
  const row = el("tr");
  for (const cell of cells) {
    const scope = tag === "th" ? "col" : null;
    row.append(inline(el(tag, { "data-align": cell.align, scope, ...AUTO }), cell.tokens));
  }
  return row;
}

/**
 * Append inline tokens to a node.
 *
 * @template {Node & ParentNode} T
 * @param {T} parent
 * @param {Token[] | undefined} tokens
 */
function inline(parent, tokens) {
  /** @type {(Node & ParentNode)[]} */
  const open = [parent];
  for (const token of tokens ?? []) {
    const into = open[open.length - 1];
    const plain = token.type === "html" ? PLAIN_TAG.exec(token.raw) : null;
    if (plain && !plain[1]) {
      const element = el(/** @type {"b"} */ (plain[2].toLowerCase()));
      into.append(element);
      open.push(element);
    } else if (plain && open.length > 1 && into.nodeName.toLowerCase() === plain[2].toLowerCase()) {
      open.pop();
    } else {
      into.append(INLINE[token.type]?.(token) ?? token.raw);
    }
  }
  return parent;
}

/** @type {Record<string, (token: Token) => Node | string>} */
const INLINE = {
  text: (token) => (token.tokens ? inline(document.createDocumentFragment(), token.tokens) : decode(token.text)),
  escape: (token) => decode(token.text),
  strong: (token) => inline(el("strong"), token.tokens),
  em: (token) => inline(el("em"), token.tokens),
  del: (token) => inline(el("del"), token.tokens),
  codespan: (token) => el("code", {}, token.text),
  br: () => el("br"),
  html: (token) => (LINE_BREAK.test(token.raw) ? el("br") : token.raw),
  checkbox: (token) => checkbox(token.checked),
  math: (token) => math(token.tex, token.display),
  footnoteMark: (token) => el("sup", {}, `[${token.label}]`),
  link: renderLink,
  image: renderImage,
};

/**
 * Return the URL if the page may link there, else null.
 *
 * @param {string} href
 */
function safeUrl(href) {
  const text = decode(href).trim();
  if (!/^(?:https?:\/\/|mailto:)/i.test(text)) return null;
  try {
    const url = new URL(text);
    return SAFE_SCHEMES.includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** @param {Token} token */
function renderLink(token) {
  const url = safeUrl(token.href);
  if (!url) return inline(el("span", { title: token.href }), token.tokens);
  const where = url.host || url.pathname;
  const link = el("a", {
    href: url.href,
    target: "_blank",
    rel: "noopener noreferrer",
    "data-host": where,
    title: token.title ? decode(token.title) : null,
  });
  inline(link, token.tokens);
  return link.textContent.trim() || link.firstElementChild ? link : el("span", {}, token.raw);
}

/**
 * Return an image that is in the answer itself; a remote one is named, and not loaded.
 *
 * @param {Token} token
 */
function renderImage(token) {
  const alt = decode(token.text);
  if (INLINE_IMAGE.test(token.href)) return el("img", { src: token.href, alt, loading: "lazy" });
  const url = safeUrl(token.href);
  if (!url?.host) return el("span", {}, `[image: ${alt}]`);
  const words = el(
    "span",
    {},
    `Image${alt ? ` “${alt}”` : ""} on ${url.host}. `,
    "It opens in a new tab, and that site will see your request.",
  );
  const onclick = () => window.open(url.href, "_blank", "noopener,noreferrer");
  const load = el("button", { type: "button", class: "button", onclick }, "Load image");
  return el("span", { class: "remote-image" }, words, " ", load);
}
