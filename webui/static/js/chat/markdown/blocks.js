// A text that grows, as blocks on the page: finished blocks are never changed again, only the open
// end is made anew. However the text was cut, the end result is that of the whole text at once.

import { part } from "../../shell/page.js";
import { growCode } from "./code.js";
import { isClosed, lex, newContext, renderBlock, renderItem, renderRow } from "./markdown.js";

const HALF_FENCE = /(?:^|\n)[ \t]*(?:`{1,2}|`{3,}[^`\n]*|~{1,2}|~{3,}[^\n]*)$/;
const HALF_LINE = /(?:^|\n)[ \t]*(?:[-*+=_#>|]+|\d{1,9}[.)]?)[ \t]*$/;

/** @import { Cell, Token } from "../../../vendor/marked.js" */
/** @import { Context } from "./markdown.js" */

/**
 * A block on the page. `open`: a code block without its closing fence. `after`: the context behind it.
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
  }

  /**
   * Show the text so far.
   *
   * @param {string} text
   */
  update(text) {
    const { blocks, links } = lex(holdBack(text.slice(this.offset)), this.links);
    this.links = { ...links };
    const shown = blocks.filter((token) => token.type !== "space");
    const last = blocks.findLastIndex((token) => token.type !== "space");
    // The next block's first line must be whole: half of it may still turn out to be a part of this.
    const settled = last > 0 && blocks[last].raw.includes("\n") ? last : 0;
    this.#paint(shown);
    let count = 0;
    for (const token of blocks.slice(0, settled)) {
      this.offset += token.raw.length;
      if (token.type !== "space") count += 1;
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
    const { blocks, links } = lex(text);
    const tokens = blocks.filter((token) => token.type !== "space");
    const shown = [...this.done, ...this.open];
    let same = 0;
    // A link defined late changes what stands before it: such a text is made anew as a whole.
    const settled = Object.keys(links).length === 0 ? shown.length : 0;
    while (same < settled && shown[same].raw.trimEnd() === tokens[same]?.raw.trimEnd()) same += 1;
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
      const patched = before ? this.#patched(before, token, context) : null;
      const node = patched ?? renderBlock(token, context) ?? document.createComment("");
      if (!before) this.parent.append(node);
      else if (!patched) before.node.replaceWith(node);
      const open = !final && token.type === "code" && !isClosed(token);
      this.open[n] = { raw: token.raw, type: token.type, token, node, open, after: { ...context } };
    });
    for (const extra of this.open.splice(tokens.length)) extra.node.remove();
  }

  /**
   * Change a block's node in place where its kind allows, and return it; null: it must be made anew.
   *
   * @param {Block} before
   * @param {Token} token
   * @param {Context} context
   */
  #patched(before, token, context) {
    const { node, token: old } = before;
    if (before.type !== token.type || !(node instanceof HTMLElement)) return null;
    if (token.type === "code" && before.open && (old.lang ?? "") === (token.lang ?? "")) {
      growCode(node, token.text, isClosed(token));
      return node;
    }
    // A heading's level depends on the headings before it, those in kept items included.
    if (token.raw.includes("# ")) return null;
    if (token.type === "list" && old.ordered === token.ordered && old.start === token.start) {
      return patchList(node, old, token, context);
    }
    if (token.type === "table" && sameCells(old.header, token.header)) return patchTable(node, old, token);
    return null;
  }
}

/**
 * Remove a last line that may be half of a fence or of another mark.
 *
 * @param {string} text
 */
function holdBack(text) {
  const found = HALF_FENCE.exec(text) ?? HALF_LINE.exec(text);
  return found ? text.slice(0, found.index) : text;
}

/**
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 * @param {Context} context
 */
function patchList(node, old, token, context) {
  token.items.forEach((item, n) => {
    const was = old.items[n];
    if (was && was.raw.trimEnd() === item.raw.trimEnd() && was.loose === item.loose) return;
    const made = renderItem(item, context);
    if (was) node.children[n].replaceWith(made);
    else node.append(made);
  });
  while (node.children.length > token.items.length) node.lastElementChild?.remove();
  return node;
}

/**
 * @param {HTMLElement} node
 * @param {Token} old
 * @param {Token} token
 */
function patchTable(node, old, token) {
  const body = part("tbody", HTMLElement, node);
  token.rows.forEach((row, n) => {
    const was = old.rows[n];
    if (was && sameCells(was, row)) return;
    const made = renderRow(row, "td");
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
