// What models write inside a line and marked does not know: formulas, footnote marks, runs of emphasis
// (see emphasis.js), and addresses that end before full-width punctuation.

import { runToken } from "./emphasis.js";

/** @import { Token, TokenizerThis } from "../../../../vendor/marked.js" */

const MATH = /^(?:\$\$([^\n]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\))/;
/** A formula between single dollars: no space inside them, and no letter or digit behind. */
const DOLLARS = new RegExp(
  "^\\$((?:[^\\s$\\\\`]|\\\\.)(?:(?:[^$\\\\\\n`]|\\\\.){0,300}?(?:[^\\s$\\\\`]|\\\\.))?)\\$" +
    "(?!\\d|\\$|(?!(?:th|st|nd|rd|s)\\b)[A-Za-z])",
);
/** A number, a name of at most three letters, a call, or a list of those: `2n`, `f(x)`, `(a, b)`. */
const SIMPLE =
  /^[([{]?-?(?:\d[\d.,]*)?(?:\p{L}{0,3}'*)(?:\([^()]*\))?(?:(?:, ?|\s?[-/:]\s?)-?[\p{L}\d.]{1,4}'*)*[)\]}]?$/u;
const IDEOGRAPH = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Hang}]/u;
const FOOTNOTE_MARK = /^\[\^([^\]\s]{1,40})\]/;
/** White space, quotes, and punctuation that is not ASCII: where a sentence goes on behind an address. */
const OUTSIDE =
  '\\s<>"`|\\\\\\u00a1-\\u00bf\\u2018-\\u201f\\u2026\\u2030-\\u205e' +
  "\\u3000-\\u3004\\u3008-\\u3020\\u3030\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65";
/** A host, and a path that ends before those and before emphasis. */
const ADDRESS = new RegExp(
  "^(?:https?:\\/\\/|www\\.)(?:\\[[\\da-f:.]+\\]|[a-z0-9][a-z0-9.-]*)(?::\\d+)?" +
    `(?:[/?#](?:(?!\\*\\*|~~)[^${OUTSIDE}])*)?`,
  "i",
);

export const INLINE_START = /[$*_~]|\\[[(]|\[\^|https?:\/\/|www\./i;

/** @param {string} source */
function math(source) {
  const found = MATH.exec(source);
  if (!found) return undefined;
  const [raw, dollars, brackets, parens] = found;
  const tex = (dollars ?? brackets ?? parens).trim();
  return tex ? { type: "math", raw, tex, display: parens === undefined } : undefined;
}

/**
 * Return a formula between single dollars. Prices and names of variables have dollars too, so the text
 * between them must look like mathematics.
 *
 * @param {string} source
 * @param {Token[]} before
 */
function dollarMath(source, before) {
  if (source[0] !== "$") return undefined;
  const found = DOLLARS.exec(source);
  if (!found || /[\w$\\]$/.test(textBefore(before)) || !looksLikeMath(found[1])) return undefined;
  return { type: "math", raw: found[0], tex: found[1], display: false };
}

/**
 * True if a text between dollars is a formula: it has commands, indexes or operators and no words, or it
 * is a single symbol, a number, or a call of one.
 *
 * @param {string} tex
 */
function looksLikeMath(tex) {
  const bare = tex.replace(/\\(?:text|mathrm|mathbf|mathit|operatorname|textbf|mbox)\*?\{[^}]*\}/g, "\\x");
  if (IDEOGRAPH.test(bare)) return false;
  const words = bare.replace(/\\[a-zA-Z]+/g, " ").match(/\p{L}{2,}/gu) ?? [];
  const long = words.some((word) => word.length > 3);
  if (/\\[a-zA-Z]+|\\[{}%,;]/.test(bare)) return true;
  if (/[_^](?:[\w{+*'-])/.test(bare)) return !long || !/\s/.test(bare);
  if (long) return false;
  if (/[=<>≤≥≠≈±×÷∈+*|!]/.test(bare)) return words.length < 3;
  if (/\s/.test(bare.replace(/,\s|\s*[-/:]\s*/g, ""))) return false;
  return SIMPLE.test(bare);
}

/** @param {string} source */
function footnoteMark(source) {
  const found = FOOTNOTE_MARK.exec(source);
  return found ? { type: "footnoteMark", raw: found[0], label: found[1] } : undefined;
}

/**
 * Return a run of emphasis. Single tildes are text: they stand for "about" and "to" far more often than
 * for struck text.
 *
 * @param {string} source
 * @param {Token[]} before
 */
function run(source, before) {
  if (!/^[*_~]/.test(source)) return undefined;
  const tildes = /^~+/.exec(source)?.[0] ?? "";
  if (tildes && tildes !== "~~") return { type: "text", raw: tildes, text: tildes };
  return runToken(source, textBefore(before));
}

/**
 * @this {TokenizerThis}
 * @param {string} source
 * @param {Token[]} before
 */
function address(source, before) {
  if (this.lexer.state.inLink || !/^(?:http|www\.)/i.test(source)) return undefined;
  if (/[\w/.@-]$/.test(textBefore(before))) return undefined;
  return addressToken(source);
}

/**
 * Return the link of an address at the beginning of a text; undefined where there is none.
 *
 * @param {string} source
 */
export function addressToken(source) {
  const found = ADDRESS.exec(source);
  const raw = found && trimmed(found[0]);
  if (!raw || !/^(?:https?:\/\/.|www\..+\.)/i.test(raw)) return undefined;
  const href = /^w/i.test(raw) ? `http://${raw}` : raw;
  return { type: "link", raw, text: raw, href, tokens: [{ type: "text", raw, text: raw }] };
}

/**
 * Return an address without the punctuation of the sentence around it.
 *
 * @param {string} text
 */
function trimmed(text) {
  let kept = text;
  for (;;) {
    const shorter = kept.replace(/(?:[?!.,:;*_~'"]|&[a-z\d]+;|\]\(?)$/i, "");
    const closed = kept.endsWith(")") && kept.split(")").length > kept.split("(").length;
    if (shorter === kept && !closed) return kept;
    kept = closed ? kept.slice(0, -1) : shorter;
  }
}

/**
 * Return the end of the text before a token.
 *
 * @param {Token[]} before
 */
const textBefore = (before) => before.at(-1)?.raw ?? "";

export const INLINE_RULES = [math, dollarMath, footnoteMark, run, address];
