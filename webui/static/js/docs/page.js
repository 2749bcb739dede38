// The documentation: one language and one model for all examples, copying, and running two of them.

import { AnswerStream } from "../shell/answer_stream.js";
import { ApiError, callJson, isAbort, pageHeaders } from "../shell/api.js";

/** @import { Ending, QueuePlace, StreamState } from "../shell/answer_stream.js" */
import { copyFrom } from "../shell/clipboard.js";
import { announce, closest, fill, part, pluralText, texts } from "../shell/page.js";
import { END_WORDS, errorWords, newId, stateWords, usedWords } from "../shell/run_words.js";
import "./search.js";

const YEAR_S = 365 * 24 * 3600;
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
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `roxy_language=${radio.value}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
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

/** The frame below an example that can be run. */
class Runner {
  #frame;
  #words;
  #answer;
  #run;
  #stop;
  /** @type {AnswerStream | null} */
  #stream = null;

  /** @param {HTMLElement} frame */
  constructor(frame) {
    this.#frame = frame;
    this.#words = part('[data-part="words"]', HTMLElement, frame);
    this.#answer = part('[data-part="answer"]', HTMLElement, frame);
    this.#run = part('[data-part="run"]', HTMLButtonElement, frame);
    this.#stop = part('[data-part="stop"]', HTMLButtonElement, frame);
    this.#run.addEventListener("click", () => this.#start());
    this.#stop.addEventListener("click", () => this.#stream?.stop());
    addEventListener("pagehide", () => this.#leave());
  }

  /**
   * @param {string} words
   * @param {boolean} [aloud] for screen readers too
   */
  #show(words, aloud = true) {
    this.#words.textContent = words;
    if (aloud) announce(words);
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    const focused = document.activeElement === (busy ? this.#run : this.#stop);
    this.#run.hidden = busy;
    this.#stop.hidden = !busy;
    if (focused) (busy ? this.#stop : this.#run).focus();
  }

  async #start() {
    this.#answer.hidden = false;
    this.#answer.textContent = "";
    this.#answer.classList.remove("failed");
    this.#show(texts.docs.sending);
    if (this.#frame.dataset.run === "models") await this.#listModels();
    else await this.#chat();
  }

  async #listModels() {
    try {
      const models = await callJson("models");
      this.#answer.textContent = JSON.stringify(models, null, 2);
      this.#show(pluralText(texts.docs.listed, models.data.length));
    } catch (error) {
      this.#failed(error);
    }
  }

  async #chat() {
    this.#setBusy(true);
    const request = { model: choose.value, ...JSON.parse(this.#frame.dataset.request ?? "{}") };
    const stream = new AnswerStream(newId("docs"), this);
    this.#stream = stream;
    try {
      await stream.follow(await stream.ask(request));
    } catch (error) {
      if (!isAbort(error)) this.#failed(error);
    }
  }

  /** Stop the answer when the page is left, with a call that outlives the page: it cannot be read later. */
  #leave() {
    if (this.#stop.hidden) return;
    const options = { method: "DELETE", keepalive: true, headers: pageHeaders() };
    fetch(`/api/v1/jobs/${this.#stream?.job}`, options).catch(() => {});
  }

  /** @param {unknown} error */
  #failed(error) {
    const problem = error instanceof ApiError ? error : new ApiError(0, { message: String(error) });
    this.#answer.classList.add("failed");
    this.#answer.textContent = errorWords(problem, PROBLEMS[problem.code ?? ""]);
    this.#show(problem.status ? fill(texts.docs.refused, { status: problem.status }) : texts.docs.failed);
    this.#setBusy(false);
  }

  // StreamListener

  /**
   * @param {StreamState} name
   * @param {QueuePlace} place
   */
  state(name, place) {
    this.#show(stateWords(name, place));
  }

  /** @param {string} text */
  delta(text) {
    const answer = this.#answer;
    if (answer.textContent === "") this.#show(texts.docs.writing);
    const atEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
    answer.append(text);
    if (atEnd) answer.scrollTop = answer.scrollHeight;
  }

  /** @param {{ ending: Ending, error: ApiError | null }} end */
  async end({ ending, error }) {
    this.#setBusy(false);
    const stream = this.#stream;
    if (error && (ending === "failed" || ending === "interrupted")) {
      this.#answer.append(`${this.#answer.textContent ? "\n\n" : ""}${errorWords(error, PROBLEMS[error.code ?? ""])}`);
      this.#answer.classList.add("failed");
    }
    const words = END_WORDS[ending];
    this.#show(words);
    const used = await usedWords(stream?.job ?? "");
    if (used && stream === this.#stream && this.#stop.hidden) this.#show(`${words} · ${used}`, false);
  }
}

for (const frame of all("[data-run]")) {
  frame.hidden = false;
  if (frame.querySelector('[data-part="run"]')) new Runner(frame);
}
document.documentElement.dataset.ready = "";
