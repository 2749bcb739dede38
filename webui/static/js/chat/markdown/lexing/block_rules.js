// Blocks that models write and marked does not know: formulas, footnotes, callouts, `details`, fences
// inside a Markdown fence, and HTML of which only harmless tags are taken.

import { texts } from "../../../shell/page.js";

/** @import { Token, TokenizerThis } from "../../../../vendor/marked.js" */

const ENVIRONMENTS = "equation|align|alignat|gather|multline|split|aligned|gathered|cases|array|CD|[bpvBV]?matrix";
const MATH = new RegExp(
  "^ {0,3}(?:\\$\\$([\\s\\S]+?)\\$\\$|\\\\\\[([\\s\\S]+?)\\\\\\]|" +
    `(\\\\begin\\{(${ENVIRONMENTS})(\\*?)\\}[\\s\\S]+?\\\\end\\{\\4\\5\\}))[ \\t]*(?:\\n|$)`,
);
const OPEN_MATH = new RegExp(
  `^ {0,3}(?:\\$\\$|\\\\\\[|\\\\begin\\{(?:${ENVIRONMENTS})\\*?\\})(?:(?!\\n[ \\t]*\\n)[\\s\\S])*$`,
);
const FOOTNOTE = /^ {0,3}\[\^([^\]\s]{1,40})\]:[ \t]*([^\n]*(?:\n(?!\s*\n|\s{0,3}\[\^)[^\n]+)*)(?:\n|$)/;
const MARKDOWN_FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*((?:markdown|md|mdx|gfm)\b[^`\n]*)(?:\n|$)/i;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const CALLOUT = /^ {0,3}>[ \t]?\[!([a-z]{3,12})\][+-]?[ \t]*([^\n]*)(?:\n|$)/i;
const DETAILS = /^ {0,3}<details(?:\s+open(?:=""|="open")?)?\s*>/i;
const DETAILS_PARTS = /<details(?=[\s>])[^>\n]*>|<\/details\s*>|(?:^|\n) {0,3}(`{3,}|~{3,})[^\n]*/gi;
const SUMMARY = /^\s*<summary>([\s\S]*?)(?:<\/summary>|\n|$)/i;
const COMMENT = /<!--[\s\S]*?-->/g;
/** Wrappers that only place what they hold, alone in their lines. */
const WRAPPERS = /^(?:<(?:\/(?:div|p|center|span)|(?:div|p|center|span)(?:\s+(?:dir|align)=["']?\w+["']?)*)\s*>\s*)+$/i;
const TAG = /<[/a-z!?][^>\n]*>?/gi;
/** Tags that become elements, without attributes. */
export const PLAIN_TAG = /^<(\/?)(sub|sup|kbd|mark|ins|small|u|b|i|s|em|strong|del|code|samp|var|q|cite|ruby|rt|rp)>$/i;
export const LINE_BREAK = /^<br\s*\/?>$/i;
/**
 * What callouts are called, and the kind that each is shown as.
 *
 * @type {Record<string, string>}
 */
const CALLOUTS = {
  ...{ note: "note", info: "note", abstract: "note", summary: "note", todo: "note", example: "note", question: "note" },
  ...{ tip: "tip", hint: "tip", success: "tip", check: "tip", important: "important" },
  ...{ warning: "warning", attention: "warning" },
  ...{ caution: "danger", danger: "danger", error: "danger", failure: "danger", bug: "danger" },
};

/**
 * Return the titles of callouts that have none of their own.
 *
 * @returns {Record<string, string>}
 */
const calloutTitles = () => ({
  note: texts.markdown.note,
  info: texts.markdown.info,
  abstract: texts.markdown.abstract,
  summary: texts.markdown.summary,
  todo: texts.markdown.todo,
  example: texts.markdown.example,
  question: texts.markdown.question,
  tip: texts.markdown.tip,
  hint: texts.markdown.hint,
  success: texts.markdown.success,
  check: texts.markdown.check,
  important: texts.markdown.important,
  warning: texts.markdown.warning,
  attention: texts.markdown.attention,
  caution: texts.markdown.caution,
  danger: texts.markdown.danger,
  error: texts.markdown.error,
  failure: texts.markdown.failure,
  bug: texts.markdown.bug,
});

export const BLOCK_START = /\n {0,3}(?:\$\$|\\\[|\\begin\{)/;

/**
 * @this {TokenizerThis}
 * @param {string} source
 */
function math(source) {
  if (!/^ {0,3}[$\\]/.test(source)) return undefined;
  const found = MATH.exec(source);
  if (found) return { type: "math", raw: found[0], tex: (found[1] ?? found[2] ?? found[3]).trim(), display: true };
  const open = this.lexer.options.growing ? OPEN_MATH.exec(source) : null;
  return open ? { type: "math", raw: open[0], tex: open[0], display: true, closed: false } : undefined;
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
  return { type: "footnote", raw: found[0], text: found[2], label: found[1], tokens };
}

/**
 * Return a Markdown fence with the fences inside it. Models write three backticks for both, so a fence
 * with the name of a language opens an inner one, and the next without a name closes that. One without a
 * name opens an inner one where it cannot well be the end: see `opensInner`.
 *
 * @this {TokenizerThis}
 * @param {string} source
 */
function markdownFence(source) {
  const opening = MARKDOWN_FENCE.exec(source);
  if (!opening) return undefined;
  const [head, indent, fence, lang] = opening;
  const open = [fence];
  let at = head.length;
  /** @type {string[]} */
  const lines = [];
  let closed = false;
  while (at < source.length && !closed) {
    const end = source.indexOf("\n", at);
    const line = source.slice(at, end < 0 ? source.length : end);
    const marks = FENCE.exec(line);
    const [mark, name] = marks ? [marks[1], marks[2].trim()] : ["", ""];
    const inner = open[open.length - 1];
    const same = mark[0] === inner[0] && mark.length >= inner.length;
    if (same && !name && open.length === 1 && opensInner(source, head.length, at, end, this.lexer.options.growing))
      open.push(mark);
    else if (same && !name) open.pop();
    else if (name && mark[0] === fence[0] && mark.length >= fence.length && open.length === 1) open.push(mark);
    closed = open.length === 0;
    if (closed) at += line.length;
    else {
      lines.push(line.slice(0, indent.length).trim() ? line : line.slice(indent.length));
      at = end < 0 ? source.length : end + 1;
    }
  }
  if (!closed && source.endsWith("\n")) lines.push("");
  const text = lines.join("\n");
  return { type: "code", raw: source.slice(0, at), lang: lang.trim(), text, closed };
}

/**
 * True if a fence without a name opens one inside a Markdown fence: a blank line or the head stands above, text
 * follows at once, and two more such fences come, one for each end. While the text grows they may come yet.
 *
 * @param {string} source
 * @param {number} top where the content begins
 * @param {number} at where the line of the fence begins
 * @param {number} end where it ends
 * @param {boolean | undefined} growing
 */
function opensInner(source, top, at, end, growing) {
  if (end < 0 || !/^[ \t]*\S/.test(source.slice(end + 1))) return false;
  const above = source.slice(top, at);
  if (above && !/\n[ \t]*\n$/.test(`\n${above}`)) return false;
  const ends = source.slice(end + 1).match(/^ {0,3}(?:`{3,}|~{3,})[ \t]*$/gm)?.length ?? 0;
  return ends > 1 || Boolean(growing);
}

/**
 * Return a callout: a quote whose first line names its kind.
 *
 * @this {TokenizerThis}
 * @param {string} source
 */
function callout(source) {
  const found = CALLOUT.exec(source);
  const name = found?.[1].toLowerCase() ?? "";
  const kind = Object.hasOwn(CALLOUTS, name) && CALLOUTS[name];
  if (!found || !kind) return undefined;
  const quote = this.lexer.tokenizer.rules.block.blockquote.exec(source);
  if (!quote) return undefined;
  const raw = quote[0].replace(/\n+$/, "");
  const body = raw.slice(found[0].length).replace(/^ {0,3}>[ \t]?/gm, "");
  const label = found[2].trim() || calloutTitles()[name];
  return { type: "callout", raw, text: body, kind, label, tokens: blocksOf(this.lexer, body) };
}

/**
 * Return a `details` element with what it holds. One that does not end goes on to the end of the text.
 *
 * @this {TokenizerThis}
 * @param {string} source
 */
function details(source) {
  const opening = DETAILS.exec(source);
  if (!opening) return undefined;
  const { end, inner } = detailsEnd(source, opening[0].length);
  const summary = SUMMARY.exec(inner);
  const body = summary ? inner.slice(summary[0].length) : inner;
  const label = summary?.[1].trim() || texts.markdown.details;
  /** @type {Token[]} */
  const head = [];
  this.lexer.inline(label, head);
  const tokens = blocksOf(this.lexer, body.replace(/^[ \t]*\n/, ""));
  const closed = end >= 0;
  const tail = closed ? (/^[ \t]*(?:\n|$)/.exec(source.slice(end))?.[0].length ?? 0) : 0;
  const raw = closed ? source.slice(0, end + tail) : source;
  return { type: "details", raw, text: inner, label, head, tokens, closed };
}

/**
 * Return where a `details` element ends (-1: it does not), and what is inside it.
 *
 * @param {string} source
 * @param {number} from
 */
function detailsEnd(source, from) {
  let depth = 1;
  let fence = "";
  DETAILS_PARTS.lastIndex = from;
  for (let found = DETAILS_PARTS.exec(source); found; found = DETAILS_PARTS.exec(source)) {
    const mark = found[1] ?? "";
    if (mark && (!fence || mark.startsWith(fence))) fence = fence ? "" : mark;
    if (mark || fence) continue;
    depth += found[0][1] === "/" ? -1 : 1;
    if (depth === 0) return { end: DETAILS_PARTS.lastIndex, inner: source.slice(from, found.index) };
  }
  return { end: -1, inner: source.slice(from) };
}

/**
 * Return HTML as what a reader expects: comments and wrappers are hidden, harmless tags become elements;
 * a block with any other tag is shown as it was written.
 *
 * @this {TokenizerThis}
 * @param {string} source
 */
function html(source) {
  if (!/^ {0,3}</.test(source)) return undefined;
  const token = this.lexer.tokenizer.html(source);
  if (!token) return undefined;
  const { raw } = token;
  if (/^ {0,3}<!--/.test(raw) && !raw.includes("-->")) {
    return this.lexer.options.growing ? { type: "comment", raw, text: "", closed: false } : token;
  }
  const text = raw.replace(COMMENT, "").trim();
  if (!text || WRAPPERS.test(text)) return { type: "comment", raw, text: "", closed: true };
  const tags = text.match(TAG) ?? [];
  if (!tags.every((tag) => PLAIN_TAG.test(tag) || LINE_BREAK.test(tag))) return token;
  /** @type {Token[]} */
  const tokens = [];
  this.lexer.inline(text, tokens);
  return { type: "paragraph", raw, text, tokens };
}

/**
 * Return the blocks of a text inside another block.
 *
 * @param {TokenizerThis["lexer"]} lexer
 * @param {string} text
 */
function blocksOf(lexer, text) {
  const { top } = lexer.state;
  lexer.state.top = true;
  const tokens = lexer.blockTokens(text, []);
  lexer.state.top = top;
  return tokens;
}

export const BLOCK_RULES = [math, footnote, markdownFence, callout, details, html];
