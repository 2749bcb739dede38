// The owner's page of models: "Try it" has one deployment answer a short question.

import { AnswerStream } from "../shell/answer_stream.js";
import { ApiError, isAbort, pageHeaders } from "../shell/api.js";
import { announce, part, texts } from "../shell/page.js";
import { END_WORDS, errorWords, newId, stateWords, usedWords } from "../shell/run_words.js";

/** @import { Ending, QueuePlace, StreamState } from "../shell/answer_stream.js" */

/** Models that think first need more than their answer has. */
const MOST_TOKENS = 1000;
const MOST_WAIT_S = "30";

/**
 * What an error means for the owner, by its code; the API's messages are in English.
 *
 * @type {Record<string, string>}
 */
const PROBLEMS = {
  rate_limit_exceeded: texts.models.provider_limited,
  upstream_connect_timeout: texts.models.provider_slow,
  upstream_disconnected: texts.models.provider_lost,
  upstream_error: texts.models.provider_wrong,
  upstream_gap_timeout: texts.models.provider_slow,
  upstream_overloaded: texts.models.provider_overloaded,
  upstream_timeout: texts.models.provider_slow,
  upstream_total_timeout: texts.models.provider_slow,
  upstream_unavailable: texts.models.provider_away,
  limits_unavailable: texts.models.gateway_busy,
  node_unavailable: texts.models.gateway_busy,
  server_is_draining: texts.models.gateway_busy,
  server_is_overloaded: texts.models.gateway_busy,
  invalid_api_key: texts.models.session_over,
  session_changed: texts.models.session_over,
  session_ended: texts.models.session_over,
};

/** Errors whose message in English may say more: what of the configuration the provider refuses. */
const DETAILED = ["upstream_error", "upstream_unavailable"];

/** The line of one deployment. */
class Trial {
  #line;
  #run;
  #stop;
  #words;
  #answer;
  /** @type {AnswerStream | null} */
  #stream = null;

  /** @param {HTMLElement} line */
  constructor(line) {
    this.#line = line;
    this.#run = part('[data-part="run"]', HTMLButtonElement, line);
    this.#stop = part('[data-part="stop"]', HTMLButtonElement, line);
    this.#words = part('[data-part="words"]', HTMLElement, line);
    this.#answer = part('[data-part="answer"]', HTMLElement, line);
    this.#run.hidden = false;
    this.#run.addEventListener("click", () => this.#start());
    this.#stop.addEventListener("click", () => this.#stream?.stop());
    addEventListener("pagehide", () => this.#leave());
  }

  async #start() {
    part('[data-part="result"]', HTMLElement, this.#line).hidden = false;
    this.#answer.textContent = "";
    this.#answer.hidden = true;
    this.#answer.classList.remove("failed");
    this.#setBusy(true);
    this.#show(texts.models.sending);
    const request = {
      model: this.#line.dataset.model,
      messages: [{ role: "user", content: texts.models.question }],
      max_tokens: MOST_TOKENS,
      stream: true,
    };
    const headers = { "X-Roxy-Deployment": this.#line.dataset.deployment ?? "", "X-Roxy-Max-Wait": MOST_WAIT_S };
    const stream = new AnswerStream(newId("try"), this);
    this.#stream = stream;
    try {
      await stream.follow(await stream.ask(request, headers));
    } catch (error) {
      if (!isAbort(error)) this.#failed(error);
    }
  }

  /** @param {unknown} error */
  #failed(error) {
    this.#setBusy(false);
    this.#showError(error instanceof ApiError ? error : new ApiError(0, { message: String(error) }));
    this.#show(texts.page.failed);
  }

  /** @param {ApiError} error */
  #showError(error) {
    this.#answer.hidden = false;
    this.#answer.classList.add("failed");
    const code = error.code ?? "";
    const details = DETAILED.includes(code) ? `\n${error.message}` : "";
    const words = `${errorWords(error, PROBLEMS[code])}${details}`;
    this.#answer.append(`${this.#answer.textContent ? "\n\n" : ""}${words}`);
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

  /** Stop the answer when the page is left, with a call that outlives the page. */
  #leave() {
    if (this.#stop.hidden) return;
    const options = { method: "DELETE", keepalive: true, headers: pageHeaders() };
    fetch(`/api/v1/jobs/${this.#stream?.job}`, options).catch(() => {});
  }

  // StreamListener

  /**
   * @param {StreamState} name
   * @param {QueuePlace} place
   */
  state(name, place) {
    this.#show(stateWords(name, place));
  }

  /**
   * @param {string} text
   * @param {string} reasoning
   */
  delta(text, reasoning) {
    if (!text) {
      if (reasoning && this.#answer.hidden) this.#show(texts.models.thinking);
      return;
    }
    if (this.#answer.hidden) this.#show(texts.models.writing);
    this.#answer.hidden = false;
    this.#answer.append(text);
  }

  /** @param {{ ending: Ending, error: ApiError | null }} end */
  async end({ ending, error }) {
    this.#setBusy(false);
    const stream = this.#stream;
    if (error && (ending === "failed" || ending === "interrupted")) this.#showError(error);
    const words = ending === "done" ? texts.models.works : END_WORDS[ending];
    this.#show(words);
    const used = await usedWords(stream?.job ?? "");
    if (used && stream === this.#stream && this.#stop.hidden) this.#show(`${words} · ${used}`, false);
  }
}

/** @type {NodeListOf<HTMLElement>} */
const lines = document.querySelectorAll("[data-deployment]");
for (const line of lines) if (line.querySelector('[data-part="run"]')) new Trial(line);
document.documentElement.dataset.ready = "";
