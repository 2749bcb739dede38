// The part of a page in which a request is tried: its two buttons, its state in words, and the answer.

import { AnswerStream } from "./answer_stream.js";
import { ApiError, isAbort, pageHeaders } from "./api.js";
import { announce, part } from "./page.js";
import { END_WORDS, newId, stateWords, usedWords } from "./run_words.js";

/** @import { Ending, QueuePlace, StreamState } from "./answer_stream.js" */

/**
 * What a page does with its part. `start`: the button was pressed. `delta`: new text has come. `failed`: there
 * is no answer. `cut`: the answer ended with an error. `ends`: other words for an ending.
 *
 * @typedef {object} RunPage
 * @property {(panel: RunPanel) => void} start
 * @property {(panel: RunPanel, text: string, reasoning: string) => void} delta
 * @property {(panel: RunPanel, error: ApiError) => void} failed
 * @property {(panel: RunPanel, error: ApiError) => void} cut
 * @property {Partial<Record<Ending, string>>} [ends]
 */

/** Sends one request at a time, and stops it when the page is left. Also the listener of its stream. */
export class RunPanel {
  #page;
  #words;
  #run;
  #stop;
  /** @type {AnswerStream | null} */
  #stream = null;
  /** What was shown before the connection was lost. */
  #before = "";

  /**
   * @param {HTMLElement} root with the parts "run", "stop", "words" and "answer"
   * @param {RunPage} page
   */
  constructor(root, page) {
    this.root = root;
    this.#page = page;
    this.answer = part('[data-part="answer"]', HTMLElement, root);
    this.#words = part('[data-part="words"]', HTMLElement, root);
    this.#run = part('[data-part="run"]', HTMLButtonElement, root);
    this.#stop = part('[data-part="stop"]', HTMLButtonElement, root);
    this.#run.hidden = false;
    this.#run.addEventListener("click", () => page.start(this));
    this.#stop.addEventListener("click", () => this.#stream?.stop());
    addEventListener("pagehide", () => this.#leave());
  }

  /**
   * Show the state of the request.
   *
   * @param {string} words
   * @param {boolean} [aloud] for screen readers too
   */
  show(words, aloud = true) {
    this.#words.textContent = words;
    if (aloud) announce(words);
  }

  /**
   * Add a paragraph about an error to the answer.
   *
   * @param {string} words
   */
  addError(words) {
    this.answer.append(`${this.answer.textContent ? "\n\n" : ""}${words}`);
    this.answer.classList.add("failed");
  }

  /**
   * Send a chat request, and follow its answer to the end.
   *
   * @param {string} from begins the id of the request
   * @param {object} request
   * @param {Record<string, string>} [headers]
   */
  async send(from, request, headers) {
    this.#setBusy(true);
    const stream = new AnswerStream(newId(from), this);
    this.#stream = stream;
    try {
      await stream.follow(await stream.ask(request, headers));
    } catch (error) {
      if (!isAbort(error)) this.fail(error);
    }
  }

  /**
   * Show that there is no answer.
   *
   * @param {unknown} error
   */
  fail(error) {
    this.#setBusy(false);
    this.#page.failed(this, error instanceof ApiError ? error : new ApiError(0, { message: String(error) }));
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    const focused = document.activeElement === (busy ? this.#run : this.#stop);
    this.#run.hidden = busy;
    this.#stop.hidden = !busy;
    if (focused) (busy ? this.#stop : this.#run).focus();
  }

  /** Stop the answer with a call that outlives the page: it cannot be read later. */
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
    if (name === "reconnecting") this.#before ||= this.#words.textContent ?? "";
    this.show(stateWords(name, place));
  }

  attached() {
    if (this.#before) this.show(this.#before);
    this.#before = "";
  }

  /**
   * @param {string} text
   * @param {string} reasoning
   */
  delta(text, reasoning) {
    this.#page.delta(this, text, reasoning);
  }

  /** @param {{ ending: Ending, error: ApiError | null }} end */
  async end({ ending, error }) {
    this.#setBusy(false);
    const stream = this.#stream;
    if (error && (ending === "failed" || ending === "interrupted")) this.#page.cut(this, error);
    const words = this.#page.ends?.[ending] ?? END_WORDS[ending];
    this.show(words);
    const used = await usedWords(stream?.job ?? "");
    if (used && stream === this.#stream && this.#stop.hidden) this.show(`${words} · ${used}`, false);
  }
}
