// A text that grows, as blocks on the page: finished blocks are never changed again, only the open
// end is made anew. However the text was cut, the end result is that of the whole text at once.

import { part } from "../../shell/page.js";
import { growCode } from "./code.js";
import { direction } from "./direction.js";
import { growInline } from "./inline.js";
import { lex } from "./lexing/lexing.js";
import { isClosed, isSettled, isShown, newContext, renderBlock, renderItem, renderRow, within } from "./markdown.js";
import { formulaOf } from "./math.js";

const HALF_FENCE = /(?:^|\n)[ \t]*(?:`{1,2}|`{3,}[^`\n]*|~{1,2}|~{3,}[^\n]*)$/;
const HALF_TAG = /<(?:\/?[a-zA-Z]{0,10}|!-{0,2})$/;
const HALF_LINE = /(?:^|\n)[ \t]*(?:[-*+=_#>|]+|\d{1,9}[.)]?)[ \t]*$/;

/** @import { Cell, Item, Token } from "../../../vendor/marked.js" */
/** @import { Context } from "./markdown.js" */

/**
 * A block on the page. `open`: its end has not come. `after`: the context behind it.
 *
 * @typedef {object} Block
 * @property {string} raw
 * @property {string} type
 * @property {Token} token
 * @property {ChildNode} node
 * @property {boolean} open
 * @property {Context} after
 */

/**
 * Show `text` in `parent` at once.
 *
 * @param {Element} parent
 * @param {string} text
 */
export function renderMarkdown(parent, text) {
  new Blocks(parent).finish(text);
}

/** The blocks of one text, in `parent`. */
export class Blocks {
  /** @param {Element} parent */
  constructor(parent) {
    this.parent = parent;
    /** @type {Block[]} blocks that will not change */
    this.done = [];
    /** @type {Block[]} blocks that may change */
    this.open = [];
    /** Where in the text the open blocks begin. */
    this.offset = 0;
    this.context = newContext();
    /** @type {import("../../../vendor/marked.js").Links} */
    this.links = {};
    /** @type {import("./lexing/lexing.js").Lines} */
    this.lines = new Map();
  }

  /**
   * Show the text so far.
   *
   * @param {string} text
   */
  update(text) {
    const { blocks, links } = lex(holdBack(text.slice(this.offset)), this.links, this.lines);
    this.links = { ...links };
    const shown = blocks.filter(isShown);
    const last = blocks.findLastIndex(isShown);
    // The next block's first line must be whole: half of it may still turn out to be a part of this.
    const settled = last > 0 && blocks[last].raw.includes("\n") ? last : 0;
    this.#paint(shown);
    let count = 0;
    for (const token of blocks.slice(0, settled)) {
      this.offset += token.raw.length;
      if (isShown(token)) count += 1;
    }
    for (const block of this.open.splice(0, count)) this.done.push(block);
    const before = this.done.at(-1);
    if (before) this.context = { ...before.after };
  }

  /**
   * Show the whole text, and replace earlier blocks that its later part has changed.
   *
   * @param {string} text
   */
  finish(text) {
    this.lines.clear();
    const { blocks, links } = lex(text);
    const tokens = blocks.filter(isShown);
    const shown = [...this.done, ...this.open];
    let same = 0;
    // A link defined late changes what stands before it: such a text is made anew as a whole.
    const settled = Object.keys(links).length === 0 ? shown.length : 0;
    while (same < settled && !shown[same].open && tokens[same] && isSame(shown[same].token, tokens[same])) same += 1;
    const kept = settled ? same + 1 : 0;
    for (const extra of shown.slice(kept)) extra.node.remove();
    this.done = shown.slice(0, same);
    this.open = shown.slice(same, kept);
    this.context = same ? { ...shown[same - 1].after } : newContext();
    this.#paint(tokens.slice(same), true);
    this.done.push(...this.open.splice(0));
    this.offset = text.length;
  }

  /**
   * Make the open blocks show these tokens.
   *
   * @param {Token[]} tokens
   * @param {boolean} [final]
   */
  #paint(tokens, final = false) {
    const context = { ...this.context };
    tokens.forEach((token, n) => {
      const before = this.open[n];
      if (before && before.raw === token.raw && before.type === token.type && !before.open) {
        Object.assign(context, before.after);
        return;
      }
      const patched = before ? patch(before.node, before.token, token, context) : null;
      const node = patched ?? renderBlock(token, context);
      if (!before) this.parent.append(node);
      else if (!patched) before.node.replaceWith(node);
      const open = !final && !isSettled(token);
      this.open[n] = { raw: token.raw, type: token.type, token, node, open, after: { ...context } };
    });
    for (const extra of this.open.splice(tokens.length)) extra.node.remove();
  }
}

/**
 * Change a block's node in place where its kind allows, and return it; null: it must be made anew.
 *
 * @param {ChildNode} node
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 * @returns {HTMLElement | null}
 */
function patch(node, old, token, context) {
  if (old.type !== token.type || !(node instanceof HTMLElement)) return null;
  if (token.type === "code") return patchCode(node, old, token);
  // A heading's level depends on the headings before it, those in kept blocks included.
  if (token.raw.includes("# ")) return null;
  const make = PATCHES[token.type];
  return make ? make(node, old, token, context) : null;
}

/** @type {Record<string, (node: HTMLElement, old: Token, token: Token, context: Context) => HTMLElement | null>} */
const PATCHES = {
  paragraph: (node, old, token, context) =>
    insideOf(node, token.text, context) && growInline(node, old.tokens ?? [], token.tokens ?? []) ? node : null,
  list: (node, old, token, context) =>
    old.ordered === token.ordered && old.start === token.start ? patchList(node, old, token, context) : null,
  table: (node, old, token, context) =>
    sameCells(old.header, token.header) ? patchTable(node, old, token, context) : null,
  blockquote: (node, old, token, context) => patchBlocks(node, node, old, token, context),
  callout: (node, old, token, context) =>
    old.label === token.label && old.kind === token.kind ? patchBody(node, old, token, context) : null,
  details: (node, old, token, context) =>
    old.label === token.label && old.closed === token.closed ? patchBody(node, old, token, context) : null,
};

/**
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 */
function patchCode(node, old, token) {
  const closed = isClosed(token);
  if (isClosed(old) || (old.lang ?? "") !== (token.lang ?? "")) return null;
  if (closed && formulaOf(token.lang ?? "", token.text) !== null) return null;
  growCode(node, token.text, closed);
  return node;
}

/**
 * Patch the blocks behind the title of a callout or a details element.
 *
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 */
function patchBody(node, old, token, context) {
  const body = node.lastElementChild;
  return body instanceof HTMLElement ? patchBlocks(node, body, old, token, context) : null;
}

/**
 * Make the children of `body` show the blocks of `token`; those that have not changed stay.
 *
 * @param {HTMLElement} node
 * @param {HTMLElement} body
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 */
function patchBlocks(node, body, old, token, context) {
  const inside = insideOf(node, token.text, context);
  if (!inside) return null;
  const before = (old.tokens ?? []).filter(isShown);
  const now = (token.tokens ?? []).filter(isShown);
  now.forEach((inner, n) => {
    const was = before[n];
    if (was && isSame(was, inner)) return;
    const shown = body.childNodes[n];
    if (!was) body.append(renderBlock(inner, inside));
    else if (!patch(shown, was, inner, inside)) shown.replaceWith(renderBlock(inner, inside));
  });
  while (body.childNodes.length > now.length) body.lastChild?.remove();
  return node;
}

/**
 * @param {Token} one
 * @param {Token} other
 */
const isSame = (one, other) =>
  one.type === other.type && one.raw.trimEnd() === other.raw.trimEnd() && isSettled(one) && isSettled(other);

/**
 * Return the context inside a block whose direction is still that of its node; null where it has changed,
 * so that the block must be made anew.
 *
 * @param {Element} node
 * @param {string} text
 * @param {Context} context
 */
function insideOf(node, text, context) {
  const dir = direction(text, context.rtl);
  return node.getAttribute("dir") === dir ? within(context, dir) : null;
}

/**
 * Remove a last line that may be half of a fence or of another mark.
 *
 * @param {string} text
 */
function holdBack(text) {
  const found = HALF_FENCE.exec(text) ?? HALF_LINE.exec(text) ?? HALF_TAG.exec(text);
  return found ? text.slice(0, found.index) : text;
}

/**
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 */
function patchList(node, old, token, context) {
  const inside = insideOf(node, token.raw, context);
  if (!inside) return null;
  token.items.forEach((item, n) => {
    const was = old.items[n];
    if (was && was.loose === item.loose && isSameItem(was, item)) return;
    if (was && patchItem(node.children[n], was, item, inside)) return;
    const made = renderItem(item, inside);
    if (was) node.children[n].replaceWith(made);
    else node.append(made);
  });
  while (node.children.length > token.items.length) node.lastElementChild?.remove();
  return node;
}

/**
 * @param {Item} one
 * @param {Item} other
 */
const isSameItem = (one, other) =>
  one.raw.trimEnd() === other.raw.trimEnd() &&
  [one, other].every(({ tokens }) => !tokens.length || isSettled(tokens[tokens.length - 1]));

/**
 * Patch the last block of an item, if all before it is the same. Returns false where it must be made anew.
 *
 * @param {Element} node
 * @param {Item} was
 * @param {Item} item
 * @param {Context} context
 */
function patchItem(node, was, item, context) {
  const [before, now] = [was.tokens.filter(isShown), item.tokens.filter(isShown)];
  const last = now.length - 1;
  if (was.loose !== item.loose || before.length !== now.length || last < 1) return false;
  if (!before.slice(0, last).every((token, n) => isSame(token, now[n]))) return false;
  const shown = node.lastElementChild;
  const inside = insideOf(node, item.text, context);
  return Boolean(shown && inside && patch(shown, before[last], now[last], inside));
}

/**
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 */
function patchTable(node, old, token, context) {
  const { rtl } = within(context, direction(token.raw, context.rtl));
  if (rtl !== (part("table", HTMLElement, node).dir === "rtl")) return null;
  const body = part("tbody", HTMLElement, node);
  token.rows.forEach((row, n) => {
    const was = old.rows[n];
    if (was && sameCells(was, row)) return;
    const made = renderRow(row, "td", rtl);
    if (was) body.children[n].replaceWith(made);
    else body.append(made);
  });
  while (body.children.length > token.rows.length) body.lastElementChild?.remove();
  return node;
}

/**
 * @param {Cell[]} one
 * @param {Cell[]} other
 */
const sameCells = (one, other) =>
  one.length === other.length && one.every((cell, n) => cell.text === other[n].text && cell.align === other[n].align);
