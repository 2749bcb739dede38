// An answer under way: takes what the stream brings into the message, keeps it now and then, and
// tells whoever shows it.

import { plural, seconds } from "../../shell/page.js";
import { AnswerStream, callJson } from "../../shell/stream.js";
import { put } from "./store.js";

const SAVE_MS = 1000;
const STATS_MS = [0, 300, 1000, 3000];
const LETTERS_PER_TOKEN = 4;

/** Make the record of an answer that is about to be asked for. */
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

/**
 * One answer. `shown` has the methods `phase(answer)`, `text(answer)`, `stats(answer)`, `end(answer)`
 * and `unkept(error)`. The message is complete when its state is no longer "open": then it is "done",
 * "stopped", "failed" or "interrupted". Before it is `accepted` the gateway may not know it yet.
 */
export class Answer {
  constructor(message, shown) {
    this.message = message;
    this.phase = { name: "sending", since: performance.now() };
    this.ended = new Promise((resolve) => (this._resolve = resolve));
    this._shown = shown;
    this._saving = null;
    this._firstText = null;
    this._firstThought = null;
    this._letters = 0;
    this._stream = new AnswerStream(message.job, this, message.seq);
  }

  /** Ask the gateway; raises when it refuses. Returns once it has accepted. */
  async ask(request) {
    const response = await this._stream.ask(request);
    this.message.job = this._stream.job;
    this.message.accepted = true;
    this._run(response);
  }

  /** Find a running answer again. */
  attach() {
    const accepted = this.message.accepted !== false;
    this.phase.name = accepted ? "reconnecting" : "sending";
    this._stream.accepted = accepted;
    this._run(null);
  }

  /** Stop it on purpose. */
  stop() {
    return this._stream.stop();
  }

  /** Read no further; it goes on without this page. */
  leave() {
    clearTimeout(this._saving);
    this._stream.leave();
  }

  /** Say in words where it is. */
  get words() {
    const { name, position, waiting } = this.phase;
    switch (name) {
      case "sending":
        return "Sending";
      case "queued":
        return `Position ${position} of ${waiting} in the queue`;
      case "connecting":
        return "Contacting the provider";
      case "retrying":
        return "The provider failed, trying another one";
      case "thinking":
        return "Thinking";
      case "writing":
        return "Writing";
      default:
        return "Connection lost, finding the answer again";
    }
  }

  /** Say how long it may take, or how fast it goes, where that can be told. */
  get pace() {
    const { name, wait } = this.phase;
    if (name === "queued" && wait >= 1) return `, about ${seconds(Math.round(wait)).replace(".0", "")}`;
    return name === "writing" && this.speed ? ` ≈ ${Math.round(this.speed)} tokens/s` : "";
  }

  /** Estimate the speed in tokens per second; 0 while it cannot be told. */
  get speed() {
    const lasted = (performance.now() - (this._firstText ?? performance.now())) / 1000;
    return lasted > 0.5 ? this._letters / LETTERS_PER_TOKEN / lasted : 0;
  }

  async _run(response) {
    await this._stream.follow(response);
  }

  /** Take the stream's word on where the request is. */
  state(name, details) {
    const same = name === this.phase.name;
    this.phase = { name, ...details, since: same ? this.phase.since : performance.now() };
    this._shown.phase(this);
  }

  /** Take new text. */
  delta(text, reasoning) {
    const message = this.message;
    const now = performance.now();
    if (reasoning) {
      this._firstThought ??= now;
      message.reasoning += reasoning;
      if (!message.text && this.phase.name !== "thinking") this.state("thinking", {});
    }
    if (text) {
      if (this._firstText === null) {
        this._firstText = now;
        if (this._firstThought !== null) message.thinkingMs = now - this._firstThought;
      }
      if (this.phase.name !== "writing") this.state("writing", {});
      message.text += text;
      this._letters += text.length;
    }
    message.seq = this._stream.seq;
    this._shown.text(this);
    this._saving ??= setTimeout(() => this._save(), SAVE_MS);
  }

  /** Take the end. */
  end({ ending, error }) {
    const message = this.message;
    message.state = ending;
    message.seq = this._stream.seq;
    message.finish = this._stream.finish;
    message.error = error && error.code !== "stopped" ? plainError(error) : null;
    this._save();
    this._shown.end(this);
    this._resolve(ending);
    this._fetchStats();
  }

  async _save() {
    clearTimeout(this._saving);
    this._saving = null;
    try {
      await put("messages", this.message);
    } catch (error) {
      this._shown.unkept(error);
    }
  }

  /** Fetch what the answer used: the same numbers that the usage record has. */
  async _fetchStats() {
    for (const wait of STATS_MS) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      let job;
      try {
        job = await callJson(`jobs/${this.message.job}`);
      } catch {
        return;
      }
      if (job.state !== "done" || (job.duration_s === null && !job.usage)) continue;
      this.message.stats = statsOf(job);
      await this._save();
      this._shown.stats(this);
      return;
    }
  }
}

function statsOf(job) {
  return {
    prompt: job.usage?.prompt_tokens ?? null,
    completion: job.usage?.completion_tokens ?? null,
    reasoning: job.usage?.reasoning_tokens ?? null,
    estimated: job.usage?.estimated ?? false,
    cost: job.cost_microusd,
    ttft: job.ttft_s,
    duration: job.duration_s,
    queued: job.queued_s,
    speed: job.tokens_per_s,
  };
}

/** What the API tells a client with a key, in words for somebody in a browser. */
const SAID = { 401: "You are not signed in any more." };

/** Give an error as it is kept with a message. */
export const plainError = (error) => ({
  message: SAID[error.status] ?? error.message,
  code: error.code ?? "",
  status: error.status ?? 0,
  retryAfter: error.retryAfter ?? null,
});

const RETRY = { act: "again", label: "Try again" };
const OTHER_MODEL = { act: "model", label: "Choose another model" };
const RELOAD = { act: "reload", label: "Reload the page" };
const ACTIONS = {
  invalid_api_key: RELOAD,
  xsrf_refused: RELOAD,
  model_not_found: OTHER_MODEL,
  model_not_allowed: OTHER_MODEL,
  price_unknown: OTHER_MODEL,
  no_upstream_configured: OTHER_MODEL,
  request_too_large: { act: "new", label: "Start a new chat" },
  insufficient_quota: null,
};

/** Give the one thing to do about an error; null: nothing would help. */
export const actionFor = (error) => (error.code in ACTIONS ? ACTIONS[error.code] : RETRY);

/** Say what is to be said about an answer that is over; null: nothing. */
export function explain(message) {
  const kept = message.text ? " What had arrived is kept." : "";
  switch (message.state) {
    case "stopped":
      return { tone: "calm", icon: "square", text: message.error?.message ?? "Stopped." };
    case "interrupted": {
      const text = `The answer was interrupted: the gateway has restarted, or does not keep it any more.${kept}`;
      return { tone: "warn", icon: "triangle-alert", text, action: RETRY };
    }
    case "failed":
      return { tone: "bad", text: `${message.error.message}${kept}`, action: actionFor(message.error) };
    case "done":
      return explainEnd(message);
    default:
      return null;
  }
}

function explainEnd({ finish, text }) {
  if (finish === "length") {
    return { tone: "calm", icon: "circle-alert", text: "The answer has reached its length limit." };
  }
  if (finish === "content_filter") {
    return { tone: "warn", icon: "triangle-alert", text: "The provider's filter cut the answer." };
  }
  if (!text) return { tone: "warn", icon: "triangle-alert", text: "The answer is empty.", action: RETRY };
  return null;
}

/** Say for screen readers how an answer ended. */
export function endWords(message) {
  if (message.state === "done") {
    return `Response complete, ${plural(message.text.split(/\s+/).filter(Boolean).length, "word")}`;
  }
  return { stopped: "Stopped", failed: "The answer failed", interrupted: "The answer was interrupted" }[message.state];
}
