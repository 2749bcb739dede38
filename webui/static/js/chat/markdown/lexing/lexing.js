// Markdown to tokens: marked's lexer, with what models write and marked does not know (see inline_rules.js
// and block_rules.js).

import { getDefaults, Lexer } from "../../../../vendor/marked.js";
import { BLOCK_RULES, BLOCK_START } from "./block_rules.js";
import { INLINE_RULES, INLINE_START } from "./inline_rules.js";

/** @import { Links, Token } from "../../../../vendor/marked.js" */

/**
 * The tokens of lines in a text that grows, by their source. Each time the text is read, all lines but
 * the last are what they were: the cells of a long table, say.
 *
 * @typedef {Map<string, Token[]>} Lines
 */

const MAX_KEPT_CHARS = 300;
const MAX_KEPT_LINES = 20_000;

/** @param {number} index */
const nonNegative = (index) => (index < 0 ? undefined : index);

const OPTIONS = {
  ...getDefaults(),
  gfm: true,
  extensions: {
    block: BLOCK_RULES,
    inline: INLINE_RULES,
    startBlock: [(/** @type {string} */ source) => source.search(BLOCK_START) + 1 || undefined],
    startInline: [(/** @type {string} */ source) => nonNegative(source.search(INLINE_START))],
    childTokens: {},
    renderers: {},
  },
};
/** A lexer that keeps the tokens of short lines. */
class GrowingLexer extends Lexer {
  /** @type {Lines} */
  #lines;

  /** @param {Lines} lines */
  constructor(lines) {
    super(GROWING);
    this.#lines = lines;
  }

  /**
   * @override
   * @param {string} source
   * @param {Token[]} [tokens]
   */
  inlineTokens(source, tokens = []) {
    const { links } = this.tokens;
    // A definition and an HTML tag change how other lines are read.
    const isKept = source.length <= MAX_KEPT_CHARS && !source.includes("<") && !Object.keys(links).length;
    if (!isKept || tokens.length || this.state.inLink) return super.inlineTokens(source, tokens);
    const found = this.#lines.get(source) ?? [...super.inlineTokens(source)];
    if (this.#lines.size >= MAX_KEPT_LINES) this.#lines.clear();
    this.#lines.set(source, found);
    tokens.push(...found);
    return tokens;
  }
}

const WHOLE = { ...OPTIONS, growing: false };
const GROWING = { ...OPTIONS, growing: true };

/**
 * Return the blocks of a text. `links` are the link definitions known from before it; a text that grows
 * may end in the middle of a block, and has `lines` of its own.
 *
 * @param {string} text
 * @param {Links} [links]
 * @param {Lines} [lines]
 */
export function lex(text, links = {}, lines) {
  const lexer = lines ? new GrowingLexer(lines) : new Lexer(WHOLE);
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  return { blocks: tokens, links: lexer.tokens.links };
}
