// Code blocks: language label, buttons that wrap, save and copy it, and highlighting once it is complete.
//
// highlight.js gives a tree of scopes, from which spans are made. The tree is an internal field of
// its result: the version is pinned, and a test holds the spans against its own HTML.

import { copyFrom } from "../../shell/clipboard.js";
import { el, iconButton, loadModule, part, texts } from "../../shell/page.js";

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

/** File name endings of languages that do not have their own name as one. */
const ENDINGS = Object.fromEntries(
  (
    "python=py javascript=js node=js typescript=ts bash=sh shell=sh zsh=sh fish=sh rust=rs golang=go kotlin=kt " +
    "ruby=rb csharp=cs c#=cs c++=cpp markdown=md yaml=yml powershell=ps1 perl=pl haskell=hs elixir=ex erlang=erl " +
    "julia=jl latex=tex objective-c=m objc=m fsharp=fs clojure=clj matlab=m jsonc=json json5=json graphql=gql " +
    "docker=dockerfile assembly=asm nasm=asm vb=vb visualbasic=vb solidity=sol terraform=tf hcl=tf protobuf=proto " +
    "batch=bat cmd=bat"
  )
    .split(" ")
    .map((pair) => pair.split("=")),
);
/** Languages whose name is the ending. */
const SAME = new Set(
  (
    "py js mjs ts tsx jsx sh json yml toml ini css scss less html xml svg sql rs go java kt swift c h cpp cs php rb " +
    "md diff patch ps1 r lua scala dart vue svelte csv tsv tex proto gql hs ex jl pl tf bat awk vim nix zig nim env"
  ).split(" "),
);
/** Files that are known by their name alone. */
const FILES = new Map([
  ["dockerfile", "Dockerfile"],
  ["makefile", "Makefile"],
]);

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
  const copy = iconButton("copy", texts.markdown.copy_code);
  copy.addEventListener("click", () => copyFrom(copy, code.textContent));
  const save = iconButton("download", texts.markdown.download_code);
  save.addEventListener("click", () => saveCode(code.textContent, info));
  const wrap = el("button", { type: "button", class: "wrap", "aria-pressed": "false" }, texts.markdown.wrap);
  wrap.addEventListener("click", () => {
    wrap.setAttribute("aria-pressed", String(block.toggleAttribute("data-wrap")));
  });
  const buttons = el("span", { class: "tools" }, wrap, save, copy);
  const head = el("figcaption", {}, el("span", {}, language || texts.markdown.text), buttons);
  const box = el("pre", { tabindex: "0" }, code);
  const block = el("figure", { class: "code", "data-language": language, dir: "ltr" }, head, box);
  if (closed) highlight(block);
  return block;
}

/**
 * Return the name of the file that a code block is saved as.
 *
 * @param {string} info the words after the fence; one of them may be a file name
 */
function codeFileName(info) {
  const named = /(?:^|[\s"'=:/])([\w-][\w.-]{0,60}\.\w{1,8})(?=["'\s}]|$)/.exec(info);
  if (named) return named[1];
  const language = info.trim().split(/\s+/)[0].toLowerCase();
  const ending = ENDINGS[language] ?? (SAME.has(language) ? language : "txt");
  return FILES.get(language) ?? FILES.get(ending) ?? `code.${ending}`;
}

/**
 * @param {string} text
 * @param {string} info
 */
async function saveCode(text, info) {
  const { download } = await loadModule(() => import("../../shell/download.js"));
  download(codeFileName(info), text.endsWith("\n") ? text : `${text}\n`, "text/plain");
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
  loading ??= loadModule(() => import("../../../vendor/hljs.js"), { patient: true }).then((module) => {
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
