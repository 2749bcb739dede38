// Formulas: Temml makes MathML of TeX, loaded with the first formula. Until then, and where the source is
// not TeX, the source itself is shown.

import { el } from "../../shell/page.js";

/** @import { Temml } from "../../../vendor/temml.js" */

/** @type {Temml | null} */
let temml = null;
/** @type {Promise<Temml> | null} */
let loading = null;

/**
 * Return the node of a formula.
 *
 * @param {string} tex
 * @param {boolean} display in a line of its own
 */
export function math(tex, display) {
  const source = display ? `\\[${tex}\\]` : `\\(${tex}\\)`;
  // A formula in a line of its own may be wider than the page: it scrolls, by keyboard too.
  const wide = { class: "math display", tabindex: "0", role: "group", "aria-label": "Formula" };
  const node = el("span", { ...(display ? wide : { class: "math" }), "data-tex": tex }, source);
  if (temml) {
    typeset(temml, node, tex, display);
    return node;
  }
  loading ??= import("../../../vendor/temml.js").then((module) => {
    temml = module.default;
    return temml;
  });
  loading
    .then((loaded) => typeset(loaded, node, tex, display))
    .catch(() => {
      loading = null; // the next formula tries again
    });
  return node;
}

/**
 * @param {Temml} loaded
 * @param {HTMLElement} node
 * @param {string} tex
 * @param {boolean} display
 */
function typeset(loaded, node, tex, display) {
  const made = document.createElement("span");
  try {
    loaded.render(tex, made, { displayMode: display, throwOnError: true, trust: false, maxExpand: 500 });
  } catch (error) {
    node.title = error instanceof Error ? error.message : String(error);
    return;
  }
  node.replaceChildren(...made.childNodes);
}
