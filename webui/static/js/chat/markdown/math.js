// Formulas: Temml makes MathML of TeX, loaded with the first formula. Until then, and where the source is
// not TeX, the source itself is shown.

import { el, iconButton, loadModule, texts } from "../../shell/page.js";
import { copyRich } from "./copying.js";

/** @import { Temml } from "../../../vendor/temml.js" */

const DISPLAY = /^\s*(?:\$\$([\s\S]+)\$\$|\\\[([\s\S]+)\\\]|(\\begin\{(\w+\*?)\}[\s\S]+\\end\{\4\}))\s*$/;
/** Fences that hold an environment of the same name. */
const ENVIRONMENT = /^(?:equation|align|gather)\*?$/;
/** Environments that stand inside others: a fence of only one of these is a formula, not a document. */
const NO_FORMULA =
  /\\(?:documentclass|usepackage|section|begin\{(?:document|itemize|enumerate|tabular|figure|tikzpicture)\*?\})/;

/** Formulas that are kept: a paragraph that grows shows the same ones again and again. */
const MAX_KEPT = 300;
/** @type {Map<string, Element>} */
const kept = new Map();

/** @type {Temml | null} */
let temml = null;
/** @type {Promise<Temml> | null} */
let loading = null;

/**
 * Return the TeX of a fence that holds a formula; null where it holds code.
 *
 * @param {string} info the words after the fence
 * @param {string} text
 */
export function formulaOf(info, text) {
  const language = info.trim().split(/\s+/)[0].toLowerCase();
  if (!/^(?:math|latex|tex|(?:equation|align|gather)\*?)$/.test(language)) return null;
  if (NO_FORMULA.test(text) || !text.trim()) return null;
  const found = DISPLAY.exec(text);
  const tex = (found?.[1] ?? found?.[2] ?? found?.[3])?.trim();
  if (tex) return tex;
  if (language === "math") return text.trim();
  if (!ENVIRONMENT.test(language)) return null; // LaTeX that was asked for is code
  return `\\begin{${language}}\n${text.trim()}\n\\end{${language}}`;
}

/**
 * Return the node of a formula whose end has not come: its source.
 *
 * @param {string} source
 */
export const openMath = (source) => el("div", { class: "math display open" }, source.trimEnd());

/**
 * Return the node of a formula.
 *
 * @param {string} tex
 * @param {boolean} display in a line of its own
 * @param {string} [written] what the model wrote: shown until the formula is set, and where it is not TeX
 */
export function math(tex, display, written = display ? `\\[${tex}\\]` : `\\(${tex}\\)`) {
  const source = el("span", { class: "formula" }, written.trim());
  const node = el("span", { class: display ? "math display" : "math", "data-tex": tex }, source);
  if (display) {
    // A formula in a line of its own may be wider than the page: it scrolls, by keyboard too.
    source.tabIndex = 0;
    source.setAttribute("role", "group");
    source.setAttribute("aria-label", texts.markdown.formula);
    const copy = iconButton("copy", texts.markdown.copy_latex);
    copy.addEventListener("click", () => copyRich(copy, { text: tex }));
    node.append(copy);
  }
  if (temml) {
    typeset(temml, source, tex, display);
    return node;
  }
  loading ??= loadModule(() => import("../../../vendor/temml.js"), { patient: true }).then((module) => {
    temml = module.default;
    return temml;
  });
  loading
    .then((loaded) => typeset(loaded, source, tex, display))
    .catch(() => {
      loading = null; // the next formula tries again
    });
  return node;
}

/**
 * Return TeX in which names such as max_tokens may stand in words: TeX itself wants `\\_` there, models forget it.
 *
 * @param {string} tex
 */
const withNames = (tex) => tex.replace(/\\(?:text\w*|mbox)\s*\{[^{}$]*\}/g, (words) => words.replace(/\\?_/g, "\\_"));

/**
 * @param {Temml} loaded
 * @param {HTMLElement} node
 * @param {string} tex
 * @param {boolean} display
 */
function typeset(loaded, node, tex, display) {
  const key = `${display}${tex}`;
  const before = kept.get(key);
  if (before) {
    node.replaceChildren(...before.cloneNode(true).childNodes);
    return;
  }
  const made = document.createElement("span");
  try {
    loaded.render(withNames(tex), made, { displayMode: display, throwOnError: true, trust: false, maxExpand: 500 });
  } catch (error) {
    node.title = error instanceof Error ? error.message : String(error);
    return;
  }
  if (kept.size >= MAX_KEPT) kept.clear();
  kept.set(key, made);
  node.replaceChildren(...made.cloneNode(true).childNodes);
}
