// Code blocks: language label, copy button, and highlighting once the block is complete.
//
// highlight.js gives a tree of scopes, from which spans are made. The tree is an internal field of
// its result: the version is pinned, and a test holds the spans against its own HTML.

import { copyFrom, el, icon, part } from "../../shell/page.js";

/** @import { Highlighter, ScopeNode } from "../../../vendor/hljs.js" */

const MAX_HIGHLIGHTED = 50_000;
/**
 * Other names of languages; "" is not highlighted.
 *
 * @type {Record<string, string>}
 */
const ALIASES = {
  text: "",
  plaintext: "",
  plain: "",
  console: "bash",
  shell: "bash",
  zsh: "bash",
  sh: "bash",
  py: "python",
  js: "javascript",
  ts: "typescript",
  toml: "ini",
  html: "xml",
  jsonc: "json",
  "c++": "cpp",
  "c#": "csharp",
};

/** @type {Highlighter | null} */
let highlighter = null;
/** @type {Promise<Highlighter> | null} */
let loading = null;

/**
 * Return a code block. An open one can be given more text with `growCode`.
 *
 * @param {string} text
 * @param {string} info the words after the fence
 * @param {boolean} closed
 */
export function codeBlock(text, info, closed) {
  const language = info.trim().split(/\s+/)[0].slice(0, 40);
  const code = el("code", {}, text);
  const copy = el(
    "button",
    { type: "button", class: "icon-button small", "aria-label": "Copy code", title: "Copy code" },
    icon("copy"),
  );
  copy.addEventListener("click", () => copyFrom(copy, code.textContent));
  const head = el("figcaption", {}, el("span", {}, language || "text"), copy);
  const box = el("pre", { tabindex: "0" }, code);
  const block = el("figure", { class: "code", "data-language": language }, head, box);
  if (closed) highlight(block);
  return block;
}

/**
 * Show the longer text of an open block; the text that is there already is not touched.
 *
 * @param {HTMLElement} block
 * @param {string} text
 * @param {boolean} closed
 */
export function growCode(block, text, closed) {
  const code = part("code", HTMLElement, block);
  const node = code.firstChild instanceof Text ? code.firstChild : code.appendChild(document.createTextNode(""));
  if (text.startsWith(node.data)) {
    if (text.length > node.data.length) node.appendData(text.slice(node.data.length));
  } else {
    node.data = text;
  }
  if (closed) highlight(block);
}

/** @param {HTMLElement} block */
function highlight(block) {
  const name = (block.dataset.language ?? "").toLowerCase();
  const language = ALIASES[name] ?? name;
  const code = part("code", HTMLElement, block);
  if (!language || code.textContent.length > MAX_HIGHLIGHTED) return;
  if (highlighter) {
    colour(highlighter, code, language);
    return;
  }
  loading ??= import("../../../vendor/hljs.js").then((module) => {
    highlighter = module.default;
    return highlighter;
  });
  loading
    .then((loaded) => colour(loaded, code, language))
    .catch(() => {
      loading = null; // the next block tries again
    });
}

/**
 * @param {Highlighter} loaded
 * @param {HTMLElement} code
 * @param {string} language
 */
function colour(loaded, code, language) {
  if (!loaded.getLanguage(language)) return;
  const result = loaded.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(...spans(result._emitter.rootNode.children));
}

/**
 * Return the nodes of a tree of scopes.
 *
 * @param {(ScopeNode | string)[]} children
 * @returns {(Node | string)[]}
 */
export function spans(children) {
  return children.map((child) => {
    if (typeof child === "string") return child;
    const inner = fragment(spans(child.children));
    return child.scope ? el("span", { class: classOf(child.scope) }, inner) : inner;
  });
}

/** @param {(Node | string)[]} nodes */
function fragment(nodes) {
  const all = document.createDocumentFragment();
  all.append(...nodes);
  return all;
}

/**
 * Return the classes of a scope as highlight.js has them: "title.function" is "hljs-title function_".
 *
 * @param {string} scope
 */
function classOf(scope) {
  if (scope.startsWith("language:")) return scope.replace("language:", "language-");
  const [first, ...rest] = scope.split(".");
  return [`hljs-${first}`, ...rest.map((part, n) => part + "_".repeat(n + 1))].join(" ");
}
