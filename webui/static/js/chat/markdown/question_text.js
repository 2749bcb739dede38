// A message of the visitor's own, as it was typed: nothing is added, hidden or joined. Only fences and
// code in a line are shown as code, addresses are links, and the lines of lists hang.

import { el } from "../../shell/page.js";
import { codeBlock } from "./code.js";
import { direction } from "./direction.js";
import { renderLink } from "./inline.js";
import { addressToken } from "./lexing/inline_rules.js";

/** @import { Token } from "../../../vendor/marked.js" */

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const ITEM = /^\s*(?:[-*+•]|\d{1,9}[.)])\s+\S/;
const MARKED = /(`+)([^`\n](?:[^\n]*?[^`\n])?)\1(?!`)|(?<![\w/.@-])(?:https?:\/\/|www\.)/i;

/**
 * Return the box of a message.
 *
 * @param {string} text
 */
export function renderQuestion(text) {
  const box = el("div", { class: "said", dir: direction(text) });
  const lines = text.split("\n");
  /** @type {string[]} */
  let plain = [];
  for (let n = 0; n < lines.length; n += 1) {
    const end = fenceEnd(lines, n);
    if (end < 0) {
      plain.push(lines[n]);
      continue;
    }
    box.append(...paragraphs(plain));
    plain = [];
    box.append(codeBlock(lines.slice(n + 1, end).join("\n"), FENCE.exec(lines[n])?.[2] ?? "", true));
    n = end;
  }
  box.append(...paragraphs(plain));
  return box;
}

/**
 * Return the line that closes the fence which begins at a line; -1 where none begins or none closes it.
 *
 * @param {string[]} lines
 * @param {number} start
 */
function fenceEnd(lines, start) {
  const fence = FENCE.exec(lines[start])?.[1];
  if (!fence) return -1;
  for (let n = start + 1; n < lines.length; n += 1) {
    const found = FENCE.exec(lines[n]);
    if (found && !found[2].trim() && found[1].startsWith(fence)) return n;
  }
  return -1;
}

/**
 * Return the nodes of lines: one for each item of a list, one for the lines between them.
 *
 * @param {string[]} lines
 */
function paragraphs(lines) {
  /** @type {{ text: string, item: boolean }[]} */
  const groups = [];
  for (const line of lines) {
    const item = ITEM.test(line);
    const last = groups.at(-1);
    if (last && !item && !last.item) last.text += `\n${line}`;
    else groups.push({ text: line, item });
  }
  return groups.map(({ text, item }) => {
    const node = el("p", { class: item ? "item" : null, dir: direction(text) });
    node.append(...inlineParts(text));
    return node;
  });
}

/**
 * Return the parts of a text: code, links, and the text between them.
 *
 * @param {string} text
 */
function inlineParts(text) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let rest = text;
  for (let found = MARKED.exec(rest); found; found = MARKED.exec(rest)) {
    const from = rest.slice(found.index);
    const link = found[1] ? undefined : addressToken(from);
    const raw = link?.raw ?? found[0];
    parts.push(rest.slice(0, found.index));
    if (found[1]) parts.push(el("code", {}, found[2]));
    else parts.push(link ? renderLink(/** @type {Token} */ (/** @type {unknown} */ (link))) : raw);
    rest = from.slice(raw.length);
  }
  return [...parts, rest];
}
