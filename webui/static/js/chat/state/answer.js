// One answer under way: adds what the stream brings to its message, and saves that now and then.

import { AnswerStream } from "../../shell/answer_stream.js";
import { callJson } from "../../shell/api.js";
import { fill, texts } from "../../shell/page.js";
import { Joint } from "../turns/joint.js";
import { partsOfAnswer } from "../turns/thoughts.js";
import { problemWords } from "./problems.js";
import { put } from "./store.js";

/** @import { Ending, QueuePlace } from "../../shell/answer_stream.js" */
/** @import { ApiError } from "../../shell/api.js" */
/** @import { Action, AnswerRecord, Phase, PlainError, Stats } from "./types.js" */

/**
 * What an Answer calls when it has changed.
 *
 * @typedef {object} AnswerListener
 * @property {(answer: Answer) => void} phase
 * @property {(answer: Answer) => void} text
 * @property {(answer: Answer) => void} stats
 * @property {(answer: Answer) => void} end
 * @property {(answer: Answer) => void} saved its end is where other tabs find it
 * @property {(error: unknown) => void} saveFailed
 */

const SAVE_MS = 1000;
const STATS_MS = [0, 300, 1000, 3000, 10_000, 30_000];
const LETTERS_PER_TOKEN = 4;
/** Who attaches first gets what was written before, at once: for this long nothing is timed. */
const CATCH_UP_MS = 500;
const BAD_REQUEST = 400;

/**
 * Return the record of an answer that is about to be asked for.
 *
 * @param {string} id
 * @param {string} job
 * @param {string | null} parent
 * @param {string} conversation
 * @param {string} model
 * @returns {AnswerRecord}
 */
export function newAnswer(id, job, parent, conversation, model) {
  return {
    id,
    job,
    parent,
    conversation,
    model,
    role: "assistant",
    text: "",
    reasoning: "",
    created: Date.now(),
    seq: 0,
    state: "open",
    accepted: false,
    error: null,
    finish: null,
    thinkingMs: null,
    stats: null,
  };
}

/** An answer that is being written. Its message's state is "open" until the end. */
export class Answer {
  #listener;
  #stream;
  /** @type {number | undefined} */
  #saving;
  /** @type {number | null} */
  #firstText = null;
  /** @type {number | null} */
  #firstThought = null;
  #letters = 0;
  /** Whether another page has asked, or this one before it was loaded again: it did not see how the answer began. */
  #isSecond = false;
  #caughtUpAt = 0;
  /** @type {Joint | null} */
  #joint = null;

  /**
   * @param {AnswerRecord} message
   * @param {AnswerListener} listener
   */
  constructor(message, listener) {
    this.message = message;
    if (message.continues) {
      // Read from its beginning, also by the second reader: what the joint held back is in no record.
      message.text = message.text.slice(0, message.continues.letters);
      message.seq = 0;
      this.#joint = new Joint(message);
    }
    /** @type {Phase} */
    this.phase = { name: "sending", since: performance.now() };
    this.#listener = listener;
    this.#stream = new AnswerStream(message.job, this, message.seq);
  }

  /**
   * Send the request, and return once the gateway has accepted it. Raises ApiError when it refuses.
   *
   * @param {object} request
   */
  async ask(request) {
    const response = await this.#stream.ask(request);
    this.message.job = this.#stream.job;
    this.message.accepted = true;
    this.#stream.follow(response);
  }

  /** Attach to an answer that another page or tab has asked for. */
  attach() {
    this.#isSecond = true;
    const accepted = this.message.accepted !== false;
    this.phase.name = accepted ? "reconnecting" : "sending";
    this.#stream.accepted = accepted;
    this.#stream.follow(null);
  }

  /** Stop the answer at the visitor's request. */
  stop() {
    return this.#stream.stop();
  }

  /** Estimated speed in tokens per second; 0 while there is too little to estimate it from. */
  get speed() {
    const seconds = (performance.now() - (this.#firstText ?? performance.now())) / 1000;
    return seconds > 0.5 ? this.#letters / LETTERS_PER_TOKEN / seconds : 0;
  }

  /**
   * Note where the request is (see StreamListener).
   *
   * @param {Phase["name"]} name
   * @param {QueuePlace} place
   */
  state(name, place) {
    const now = performance.now();
    const since = now < this.#caughtUpAt ? Number.POSITIVE_INFINITY : now;
    this.phase = { name, ...place, since: name === this.phase.name ? this.phase.since : since };
    this.#listener.phase(this);
  }

  /** Note that the answer is read again (see StreamListener): nothing may come for a while. */
  attached() {
    const { message, phase } = this;
    this.#caughtUpAt = performance.now() + CATCH_UP_MS;
    if (phase.name !== "reconnecting" && phase.name !== "sending") return;
    const hasText = message.text.length > (message.continues?.letters ?? 0);
    const isThinking = hasText ? partsOfAnswer(message).isOpen : Boolean(message.reasoning);
    if (isThinking) this.state("thinking", {});
    else this.state(hasText ? "writing" : "connecting", {});
  }

  /**
   * Add new text (see StreamListener).
   *
   * @param {string} sent
   * @param {string} reasoning
   */
  delta(sent, reasoning) {
    const { message } = this;
    const text = this.#joint ? this.#joint.push(sent) : sent;
    const now = performance.now();
    if (reasoning) {
      message.reasoning += reasoning;
      if (!message.text) this.#think(now);
    }
    message.text += text;
    if (text && partsOfAnswer(message).isOpen) this.#think(now);
    else if (text) {
      const isOld = now < this.#caughtUpAt;
      if (this.#firstText === null && this.#firstThought !== null) message.thinkingMs = now - this.#firstThought;
      if (this.#firstText === null || isOld) this.#firstText = now;
      if (this.phase.name !== "writing") this.state("writing", {});
      this.#letters = isOld ? 0 : this.#letters + text.length;
    }
    message.seq = this.#stream.seq;
    this.#listener.text(this);
    this.#saving ??= setTimeout(() => this.save(), SAVE_MS);
  }

  /** @param {number} now */
  #think(now) {
    if (!this.#isSecond) this.#firstThought ??= now;
    if (this.phase.name !== "thinking") this.state("thinking", {});
  }

  /**
   * Complete the message (see StreamListener).
   *
   * @param {{ ending: Ending, error: ApiError | null }} end
   */
  end({ ending, error }) {
    const { message } = this;
    message.text += this.#joint?.end() ?? "";
    message.state = ending;
    message.seq = this.#stream.seq;
    message.finish = this.#stream.finish;
    message.error = error && error.code !== "stopped" ? plainError(error) : null;
    this.save().then(() => this.#listener.saved(this));
    this.#listener.end(this);
    this.#fetchStats();
  }

  /** Save what there is of the answer. */
  async save() {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    try {
      await put("messages", this.message);
    } catch (error) {
      this.#listener.saveFailed(error);
    }
  }

  /** Fetch what the answer used: the same numbers that the usage record has. */
  async #fetchStats() {
    for (const wait of STATS_MS) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      let job;
      try {
        job = await callJson(`jobs/${this.message.job}`);
      } catch (error) {
        const { status } = /** @type {ApiError} */ (error);
        if (status !== 0 && status < 500) return;
        continue; // a server that stops, or starts again
      }
      if (job.state !== "done" || (job.duration_s === null && !job.usage)) continue;
      this.message.stats = addedUp(this.message.continues?.stats ?? null, statsOf(job));
      await this.save();
      this.#listener.stats(this);
      return;
    }
  }
}

/**
 * The parts of `GET /jobs/ID` that are shown.
 *
 * @typedef {object} JobStatus
 * @property {Record<string, any> | null} usage
 * @property {number | null} cost_microusd
 * @property {number | null} ttft_s
 * @property {number | null} duration_s
 * @property {number | null} queued_s
 * @property {number | null} tokens_per_s
 */

/**
 * @param {JobStatus} job
 * @returns {Stats}
 */
function statsOf({ usage, ...job }) {
  return {
    prompt: usage?.prompt_tokens ?? null,
    completion: usage?.completion_tokens ?? null,
    reasoning: usage?.reasoning_tokens ?? null,
    estimated: usage?.estimated ?? false,
    cost: job.cost_microusd,
    ttft: job.ttft_s,
    duration: job.duration_s,
    queued: job.queued_s,
    speed: job.tokens_per_s,
  };
}

/**
 * Return what two parts of an answer used together.
 *
 * @param {Stats | null} first
 * @param {Stats} second
 * @returns {Stats}
 */
function addedUp(first, second) {
  if (!first) return second;
  /**
   * @param {number | null} a
   * @param {number | null} b
   */
  const sum = (a, b) => (a === null && b === null ? null : (a ?? 0) + (b ?? 0));
  return {
    prompt: sum(first.prompt, second.prompt),
    completion: sum(first.completion, second.completion),
    reasoning: sum(first.reasoning, second.reasoning),
    estimated: first.estimated || second.estimated,
    cost: sum(first.cost, second.cost),
    ttft: first.ttft,
    duration: sum(first.duration, second.duration),
    queued: sum(first.queued, second.queued),
    speed: second.speed,
  };
}

/**
 * Return an error as it is saved with a message.
 *
 * @param {ApiError} error
 * @returns {PlainError}
 */
export const plainError = (error) => {
  const { code, status, retryAfter } = error;
  const words = problemWords(error);
  // What is wrong with a request only the API says, in English.
  const isForeign = status === BAD_REQUEST && words === error.message;
  return { message: isForeign ? fill(texts.answers.refused, { why: words }) : words, code, status, retryAfter };
};

/** The code of an answer that ended because its guest signed in; its message says so. */
export const CUT_BY_SIGN_IN = "cut_by_sign_in";

/** @type {Action} */
export const RETRY = { name: "again", label: texts.answers.again };
/** @type {Action} */
export const CONTINUE = { name: "continue", label: texts.answers.continue };
/** @type {Action} */
export const OTHER_MODEL = { name: "model", label: texts.answers.other_model };
/** @type {Action} */
const SIGN_IN = { name: "signIn", label: texts.answers.sign_in };
/** @type {Action} */
const RELOAD = { name: "reload", label: texts.answers.reload_page };
/** @type {Action} */
const NEW_CHAT = { name: "new", label: texts.answers.new_chat };
/** @type {Record<string, Action | null>} */
const ACTIONS = {
  invalid_api_key: SIGN_IN,
  session_ended: SIGN_IN,
  session_changed: RELOAD,
  xsrf_refused: RELOAD,
  model_not_found: OTHER_MODEL,
  model_not_allowed: OTHER_MODEL,
  price_unknown: OTHER_MODEL,
  no_upstream_configured: OTHER_MODEL,
  context_length_exceeded: OTHER_MODEL,
  content_filter: OTHER_MODEL,
  request_too_large: NEW_CHAT,
  insufficient_quota: OTHER_MODEL,
};

/**
 * Return the action that helps against an error; null: there is none.
 *
 * @param {{ code: string }} error
 */
export const actionFor = ({ code }) => (code in ACTIONS ? ACTIONS[code] : RETRY);

/**
 * Return another action that helps against an error; null: there is none.
 *
 * @param {{ code: string }} error
 */
export const alsoFor = ({ code }) => (code === "context_length_exceeded" ? NEW_CHAT : null);
