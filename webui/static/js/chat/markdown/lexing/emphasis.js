// Emphasis: CommonMark's rules for runs of `*`, `_` and `~~`, with the amendment that Chinese, Japanese
// and Korean need. These write no spaces between words, so `**“word”**word` has a letter right behind
// the mark, which plain CommonMark does not accept as an end.
//
// A tokenizer makes a token of each run (`runToken`); `nest` makes strong, em and del of the runs.

/** @import { Token } from "../../../../vendor/marked.js" */

/**
 * A run that has not found its partner. `left`: marks that are left of it.
 *
 * @typedef {{ token: Token, left: number, at: number }} Run
 */

const RUN = /^(?:\*+|_+|~~(?!~))/;
const SPACE = /^\s*$/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK_SCRIPTS = ["Han", "Hira", "Kana", "Bopo", "Hang", "Yiii"].map((name) => `\\p{scx=${name}}`).join("");
const CJK = new RegExp(`[${CJK_SCRIPTS}\\u2e80-\\u303e\\ufe10-\\ufe1f\\ufe30-\\ufe6f\\uff01-\\uffee]`, "u");
/** Variation selectors: the character that they belong to stands before them. */
const SELECTORS = /[\ufe00-\ufe0e\u{e0100}-\u{e01ef}]+$/u;

/** @param {string} text */
const lastCharacter = (text) => [...text.slice(-8).replace(SELECTORS, "")].at(-1) ?? "";

/** @param {string} text */
const firstCharacter = (text) => (text ? String.fromCodePoint(text.codePointAt(0) ?? 0) : "");

/**
 * Return the token of a run of marks at the beginning of `source`. `before` is the text before it.
 *
 * @param {string} source
 * @param {string} before
 * @returns {Partial<Token> & { type: string, raw: string } | undefined}
 */
export function runToken(source, before) {
  const raw = RUN.exec(source)?.[0];
  if (!raw) return undefined;
  const previous = lastCharacter(before);
  const next = firstCharacter(source.slice(raw.length));
  const breaks = { before: isBreak(previous), after: isBreak(next) };
  const left = !SPACE.test(next) && (!isMark(next) || breaks.before || CJK.test(previous));
  const right = !SPACE.test(previous) && (!isMark(previous) || breaks.after || CJK.test(next));
  const inWord = raw[0] === "_";
  return {
    type: "run",
    raw,
    opens: left && (!inWord || !right || PUNCTUATION.test(previous)),
    closes: right && (!inWord || !left || PUNCTUATION.test(next)),
  };
}

/** @param {string} character */
const isMark = (character) => PUNCTUATION.test(character) && !CJK.test(character);

/** @param {string} character */
const isBreak = (character) => SPACE.test(character) || isMark(character);

/**
 * Return the tokens with emphasis in place of runs; a run without a partner becomes text.
 *
 * @param {Token[]} tokens
 * @returns {Token[]}
 */
export function nest(tokens) {
  if (!tokens.some((token) => token.type === "run")) return tokens;
  /** @type {Token[]} */
  const out = [];
  /** @type {Run[]} */
  const open = [];
  /** @type {Map<string, number>} below these places no run of that kind can be a partner */
  const bottoms = new Map();
  for (const token of tokens) {
    if (token.type !== "run") {
      out.push(token);
      continue;
    }
    const left = token.closes ? closeRuns(token, out, open, bottoms) : token.raw.length;
    if (left === 0) continue;
    if (token.opens) open.push({ token, left, at: out.length });
    out.push(textToken(token.raw.slice(0, left)));
  }
  return out;
}

/**
 * Pair a run with those before it. Returns how many of its marks are left.
 *
 * @param {Token} token
 * @param {Token[]} out
 * @param {Run[]} open
 * @param {Map<string, number>} bottoms
 */
function closeRuns(token, out, open, bottoms) {
  let left = token.raw.length;
  const kind = `${token.raw[0]}${token.opens}${token.raw.length % 3}`;
  while (left > 0) {
    const bottom = Math.min(bottoms.get(kind) ?? 0, open.length);
    let n = open.length - 1;
    while (n >= bottom && !arePartners(open[n].token, token)) n -= 1;
    if (n < bottom) {
      bottoms.set(kind, open.length);
      break;
    }
    const opener = open[n];
    const size = opener.left >= 2 && left >= 2 ? 2 : 1;
    const inner = out.splice(opener.at + 1);
    const mark = token.raw[0];
    const type = mark === "~" ? "del" : size === 2 ? "strong" : "em";
    opener.left -= size;
    left -= size;
    open.length = opener.left > 0 ? n + 1 : n;
    if (opener.left > 0) out[opener.at] = textToken(mark.repeat(opener.left));
    else out.pop();
    out.push(/** @type {Token} */ ({ type, raw: "", text: "", tokens: inner }));
  }
  return left;
}

/**
 * True if two runs may enclose emphasis: the same mark, and CommonMark's "multiple of 3" rule.
 *
 * @param {Token} opener
 * @param {Token} closer
 */
function arePartners(opener, closer) {
  if (opener.raw[0] !== closer.raw[0]) return false;
  const [one, other] = [opener.raw.length, closer.raw.length];
  return !(opener.closes || closer.opens) || (one + other) % 3 !== 0 || (one % 3 === 0 && other % 3 === 0);
}

/**
 * @param {string} text
 * @returns {Token}
 */
const textToken = (text) => /** @type {Token} */ ({ type: "text", raw: text, text });
