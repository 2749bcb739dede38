// The documentation: one language and one model for all examples, copying, and running two of them.

import { callJson } from "../shell/api.js";
import { copyFrom } from "../shell/clipboard.js";
import { closest, fill, keepCookie, part, pluralText, texts } from "../shell/page.js";
import { RunPanel } from "../shell/run_panel.js";
import { errorWords } from "../shell/run_words.js";
import "./search.js";

/** @import { ApiError } from "../shell/api.js" */
/** @import { RunPage } from "../shell/run_panel.js" */

const choose = part("#choose", HTMLSelectElement);

/**
 * Return all elements that match.
 *
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {HTMLElement[]}
 */
const all = (selector, root = document) =>
  [...root.querySelectorAll(selector)].filter((node) => node instanceof HTMLElement);

// Languages and models

/**
 * Keep a control at its place in the window while examples above it change their heights.
 *
 * @param {HTMLElement} node
 * @param {() => void} change
 */
function inPlace(node, change) {
  const before = node.getBoundingClientRect().top;
  change();
  window.scrollBy({ top: node.getBoundingClientRect().top - before, behavior: "instant" });
}

/** @type {NodeListOf<HTMLInputElement>} */
const tabs = document.querySelectorAll('.tabs input[type="radio"]');
for (const radio of tabs) {
  radio.addEventListener("change", () => {
    inPlace(radio, () => {
      for (const other of tabs) if (other.value === radio.value) other.checked = true;
    });
    keepCookie("roxy_language", radio.value);
  });
}

function useModel() {
  const seeing = choose.selectedOptions[0]?.hasAttribute("data-image");
  for (const mark of all(`[data-model="any"]${seeing ? ', [data-model="image"]' : ""}`))
    mark.textContent = choose.value;
  for (const mark of all('[data-model="context"]')) mark.textContent = choose.selectedOptions[0]?.dataset.context ?? "";
  const address = new URL(location.href);
  address.searchParams.set("model", choose.value);
  history.replaceState(null, "", address);
}
choose.addEventListener("change", useModel);
part("button", HTMLButtonElement, choose.form ?? document).hidden = true;

// Copying

for (const button of all("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () =>
    copyFrom(button, document.getElementById(button.dataset.copy ?? "")?.textContent ?? ""),
  );
}
for (const button of all("[data-copy-example]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = all("pre", button.closest(".example") ?? document).find((pre) => pre.checkVisibility());
    copyFrom(button, shown?.textContent ?? "");
  });
}
const copyPage = part("[data-copy-page]", HTMLAnchorElement);
copyPage.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const text = fetch(`/docs.md?model=${encodeURIComponent(choose.value)}`).then((answer) => {
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.text();
  });
  copyFrom(copyPage, text).catch(() => location.assign(copyPage.href));
});

// The table of contents follows the reading

/** @type {Map<string, Element>} */
const links = new Map();
for (const link of document.querySelectorAll(".toc a")) links.set(link.getAttribute("href")?.slice(1) ?? "", link);
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -80% 0px" },
);
for (const section of all(".topic")) seen.observe(section);

const fold = part(".toc-fold", HTMLDetailsElement);
fold.addEventListener("click", (event) => {
  if (closest(event, "a")) fold.open = false;
});

/** Open what an address leads to. */
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// Running

/**
 * What people can meet here, by the code of the error. The rest is shown as the API says it.
 *
 * @type {Record<string, string>}
 */
const PROBLEMS = {
  rate_limit_exceeded: texts.docs.too_many,
  insufficient_quota: texts.docs.over_budget,
  model_not_found: texts.docs.no_model,
  model_not_allowed: texts.docs.no_model,
  price_unknown: texts.docs.no_model,
  no_upstream_configured: texts.docs.no_model,
  upstream_connect_timeout: texts.docs.no_provider,
  upstream_disconnected: texts.docs.no_provider,
  upstream_error: texts.docs.no_provider,
  upstream_gap_timeout: texts.docs.no_provider,
  upstream_overloaded: texts.docs.no_provider,
  upstream_timeout: texts.docs.no_provider,
  upstream_unavailable: texts.docs.no_provider,
  limits_unavailable: texts.docs.no_gateway,
  node_unavailable: texts.docs.no_gateway,
  server_is_draining: texts.docs.no_gateway,
  server_is_overloaded: texts.docs.no_gateway,
  invalid_api_key: texts.docs.no_session,
  session_changed: texts.docs.no_session,
  session_ended: texts.docs.no_session,
};

/** @param {ApiError} error */
const wordsFor = (error) => errorWords(error, PROBLEMS[error.code ?? ""]);

/** @param {RunPanel} panel */
async function listModels(panel) {
  try {
    const models = await callJson("models");
    panel.answer.textContent = JSON.stringify(models, null, 2);
    panel.show(pluralText(texts.docs.listed, models.data.length));
  } catch (error) {
    panel.fail(error);
  }
}

/**
 * What is done below an example that can be run.
 *
 * @type {RunPage}
 */
const EXAMPLE = {
  start(panel) {
    const { run, request } = panel.root.dataset;
    panel.answer.hidden = false;
    panel.answer.textContent = "";
    panel.answer.classList.remove("failed");
    panel.show(texts.docs.sending);
    if (run === "models") listModels(panel);
    else panel.send("docs", { model: choose.value, ...JSON.parse(request ?? "{}") });
  },
  delta(panel, text) {
    const { answer } = panel;
    if (answer.textContent === "") panel.show(texts.docs.writing);
    const atEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
    answer.append(text);
    if (atEnd) answer.scrollTop = answer.scrollHeight;
  },
  failed(panel, error) {
    panel.answer.textContent = "";
    panel.addError(wordsFor(error));
    panel.show(error.status ? fill(texts.docs.refused, { status: error.status }) : texts.docs.failed);
  },
  cut: (panel, error) => panel.addError(wordsFor(error)),
};

for (const frame of all("[data-run]")) {
  frame.hidden = false;
  if (frame.querySelector('[data-part="run"]')) new RunPanel(frame, EXAMPLE);
}
document.documentElement.dataset.ready = "";
