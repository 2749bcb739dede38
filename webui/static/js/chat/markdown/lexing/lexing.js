// Markdown to tokens: marked's lexer, with what models write and marked does not know (see inline_rules.js
// and block_rules.js).

import { getDefaults, Lexer } from "../../../../vendor/marked.js";
import { BLOCK_RULES, BLOCK_START } from "./block_rules.js";
import { INLINE_RULES, INLINE_START } from "./inline_rules.js";

/** @import { Links } from "../../../../vendor/marked.js" */

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
const WHOLE = { ...OPTIONS, growing: false };
const GROWING = { ...OPTIONS, growing: true };

/**
 * Return the blocks of a text. `links` are the link definitions known from before it; a `growing` text
 * may end in the middle of a block.
 *
 * @param {string} text
 * @param {Links} [links]
 * @param {boolean} [growing]
 */
export function lex(text, links = {}, growing = false) {
  const lexer = new Lexer(growing ? GROWING : WHOLE);
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  return { blocks: tokens, links: lexer.tokens.links };
}
