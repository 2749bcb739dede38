// Formulas: Temml makes MathML of TeX, loaded with the first formula. Until then, and where the
// source is not TeX, the source itself is shown.

import { el } from "../../shell/page.js";

let temml = null;
let loading = null;

/** Make the node of a formula. */
export function math(tex, display) {
  const source = display ? `\\[${tex}\\]` : `\\(${tex}\\)`;
  // A formula in a line of its own may be wider than the page: it scrolls, by keyboard too.
  const wide = { class: "math display", tabindex: "0", role: "group", "aria-label": "Formula" };
  const node = el("span", { ...(display ? wide : { class: "math" }), "data-tex": tex }, source);
  if (temml) {
    typeset(node, tex, display);
    return node;
  }
  loading ??= import("../../../vendor/temml.js").then((module) => (temml = module.default));
  loading.then(() => typeset(node, tex, display)).catch(() => (loading = null));
  return node;
}

function typeset(node, tex, display) {
  const made = document.createElement("span");
  try {
    temml.render(tex, made, { displayMode: display, throwOnError: true, trust: false, maxExpand: 500 });
  } catch (error) {
    node.title = error.message;
    return;
  }
  node.replaceChildren(...made.childNodes);
}
