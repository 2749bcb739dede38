// What stands inside a line of Markdown, as DOM nodes: emphasis, links, images, formulas.

import { el, fill, texts } from "../../shell/page.js";
import { decode } from "./entities.js";
import { LINE_BREAK, PLAIN_TAG } from "./lexing/block_rules.js";
import { nest } from "./lexing/emphasis.js";
import { math } from "./math.js";

/** @import { Token } from "../../../vendor/marked.js" */

const SAFE_SCHEMES = ["http:", "https:", "mailto:"];
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,[\w+/=]+$/i;

/**
 * Append inline tokens to a node.
 *
 * @template {Node & ParentNode} T
 * @param {T} parent
 * @param {Token[] | undefined} tokens
 */
export function inline(parent, tokens) {
  /** @type {(Node & ParentNode)[]} */
  const open = [parent];
  for (const token of nest(tokens ?? [])) {
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

/**
 * Make a node that shows `old` show `tokens`: the nodes of the first tokens that are the same stay, so that
 * a paragraph that grows does not set its formulas anew. Returns false where it must be made anew.
 *
 * @param {Element} parent
 * @param {Token[]} old
 * @param {Token[]} tokens
 */
export function growInline(parent, old, tokens) {
  const [before, now] = [nest(old), nest(tokens)];
  // Of tags that are open several tokens are inside one node.
  if ([...before, ...now].some(({ type }) => type === "html")) return false;
  if (parent.childNodes.length !== before.length) return false;
  let same = 0;
  // The last node may lack a space at the end: blocks that differ only in that were not made anew.
  while (same < before.length - 1 && same < now.length && isSameToken(before[same], now[same])) same += 1;
  while (parent.childNodes.length > same) parent.lastChild?.remove();
  inline(parent, now.slice(same));
  return true;
}

/**
 * @param {Token} one
 * @param {Token} other
 * @returns {boolean}
 */
function isSameToken(one, other) {
  if (one === other) return true;
  if (one.type !== other.type || one.raw !== other.raw || one.text !== other.text || one.href !== other.href)
    return false;
  const [inner, others] = [one.tokens ?? [], other.tokens ?? []];
  return inner.length === others.length && inner.every((token, n) => isSameToken(token, others[n]));
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
  html: renderTag,
  checkbox: (token) => checkbox(token.checked),
  math: (token) => math(token.tex, token.display, token.raw),
  footnoteMark: (token) => el("sup", {}, `[${token.label}]`),
  link: renderLink,
  image: renderImage,
};

/**
 * Return what a tag without an element of its own shows: comments nothing, others their text.
 *
 * @param {Token} token
 */
function renderTag({ raw }) {
  if (raw.startsWith("<!--")) return "";
  return LINE_BREAK.test(raw) ? el("br") : raw;
}

/** @param {boolean} checked */
export function checkbox(checked) {
  const label = checked ? texts.markdown.done : texts.markdown.not_done;
  return el("input", { type: "checkbox", disabled: true, checked, "aria-label": label });
}

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
export function renderLink(token) {
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
  if (!url?.host) return el("span", {}, fill(texts.markdown.picture, { alt }));
  const words = alt ? texts.markdown.named_picture : texts.markdown.remote_picture;
  const about = el("span", {}, fill(words, { alt, host: url.host }));
  const onclick = () => window.open(url.href, "_blank", "noopener,noreferrer");
  const load = el("button", { type: "button", class: "button", onclick }, texts.markdown.load_picture);
  return el("span", { class: "remote-image" }, about, " ", load);
}
