// Code blocks: language label, copy button, and highlighting once the block is complete.
//
// highlight.js gives a tree of scopes, from which spans are made. The tree is an internal field of
// its result: the version is pinned, and a test holds the spans against its own HTML.

import { copyFrom, el, icon } from "../../shell/page.js";

const MOST_HIGHLIGHTED = 50_000;
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

let highlighter = null;
let loading = null;

/** Make a code block. An open one can be given more text with `growCode`. */
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

/** Give an open block its longer text; what is there already is not touched. */
export function growCode(block, text, closed) {
  const code = block.querySelector("code");
  const node = code.firstChild ?? code.appendChild(document.createTextNode(""));
  if (text.startsWith(node.data)) {
    if (text.length > node.data.length) node.appendData(text.slice(node.data.length));
  } else {
    node.data = text;
  }
  if (closed) highlight(block);
}

function highlight(block) {
  const named = block.dataset.language.toLowerCase();
  const language = ALIASES[named] ?? named;
  const code = block.querySelector("code");
  if (!language || code.textContent.length > MOST_HIGHLIGHTED) return;
  if (highlighter) {
    colour(code, language);
    return;
  }
  loading ??= import("../../../vendor/hljs.js").then((module) => (highlighter = module.default));
  loading.then(() => colour(code, language)).catch(() => (loading = null));
}

function colour(code, language) {
  if (!highlighter.getLanguage(language)) return;
  const result = highlighter.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(...spans(result._emitter.rootNode.children));
}

/** Make nodes of a token tree. */
export function spans(children) {
  return children.map((child) => {
    if (typeof child === "string") return child;
    const inner = spans(child.children);
    return child.scope ? el("span", { class: classOf(child.scope) }, ...inner) : fragment(inner);
  });
}

function fragment(nodes) {
  const all = document.createDocumentFragment();
  all.append(...nodes);
  return all;
}

/** Name the class of a scope as highlight.js does: "title.function" is "hljs-title function_". */
function classOf(scope) {
  if (scope.startsWith("language:")) return scope.replace("language:", "language-");
  const [first, ...rest] = scope.split(".");
  return [`hljs-${first}`, ...rest.map((part, n) => part + "_".repeat(n + 1))].join(" ");
}
