// The owner's page of models: "Try it" has one deployment answer a short question.

import { AnswerStream } from "../shell/answer_stream.js";
import { ApiError, isAbort, pageHeaders } from "../shell/api.js";
import { announce, part } from "../shell/page.js";
import { END_WORDS, errorWords, newId, stateWords, usedWords } from "../shell/run_words.js";

/** @import { Ending, QueuePlace, StreamState } from "../shell/answer_stream.js" */

const QUESTION = "Say hello in one short sentence.";
/** Models that think first need more than their answer has. */
const MOST_TOKENS = 1000;
const MOST_WAIT_S = "30";

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
    this.#show("Sending");
    const request = {
      model: this.#line.dataset.model,
      messages: [{ role: "user", content: QUESTION }],
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
    this.#show("Failed");
  }

  /** @param {ApiError} error */
  #showError(error) {
    this.#answer.hidden = false;
    this.#answer.classList.add("failed");
    this.#answer.append(`${this.#answer.textContent ? "\n\n" : ""}${errorWords(error)}`);
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
      if (reasoning && this.#answer.hidden) this.#show("Thinking");
      return;
    }
    if (this.#answer.hidden) this.#show("Writing");
    this.#answer.hidden = false;
    this.#answer.append(text);
  }

  /** @param {{ ending: Ending, error: ApiError | null }} end */
  async end({ ending, error }) {
    this.#setBusy(false);
    const stream = this.#stream;
    if (error && (ending === "failed" || ending === "interrupted")) this.#showError(error);
    const words = ending === "done" ? "It works" : END_WORDS[ending];
    this.#show(words);
    const used = await usedWords(stream?.job ?? "");
    if (used && stream === this.#stream && this.#stop.hidden) this.#show(`${words} · ${used}`, false);
  }
}

/** @type {NodeListOf<HTMLElement>} */
const lines = document.querySelectorAll("[data-deployment]");
for (const line of lines) if (line.querySelector('[data-part="run"]')) new Trial(line);
document.documentElement.dataset.ready = "";
