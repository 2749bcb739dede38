// A streamed answer: read as it arrives, and attached to again when the connection is lost.

import { ApiError, call, isAbort, Unreachable } from "./api.js";
import { REACHABLE_EVENT } from "./page.js";

const RETRIES_MS = [300, 1000, 2000, 4000, 8000, 15000, 30000];
const SESSION_CODES = ["session_ended", "session_changed"];
/** Attempts to find a request that may not have arrived yet. */
const LOOKS = 6;
/** @type {Record<string, Ending>} */
const ENDINGS = { stopped: "stopped", abandoned: "stopped", server_is_draining: "interrupted" };

/**
 * How an answer ended; "interrupted": what became of it is unknown.
 *
 * @typedef {"done" | "stopped" | "failed" | "interrupted"} Ending
 */

/**
 * Where a request is. "queued" comes with its place in the queue and the expected wait in seconds;
 * "signedOut": the answer goes on, but this page cannot read it any more.
 *
 * @typedef {"sending" | "queued" | "connecting" | "retrying" | "reconnecting" | "signedOut"} StreamState
 * @typedef {{ position?: number, waiting?: number, wait?: number }} QueuePlace
 */

/**
 * What an AnswerStream calls. `attached` follows "reconnecting" and "sending" once the answer is read again,
 * also if nothing new comes for a while. `end` comes once.
 *
 * @typedef {object} StreamListener
 * @property {(name: StreamState, place: QueuePlace) => void} state
 * @property {() => void} attached
 * @property {(text: string, reasoning: string) => void} delta
 * @property {(end: { ending: Ending, error: ApiError | null }) => void} end
 */

/**
 * Read server-sent events: `onData` gets each event's text, `onComment` each comment.
 *
 * @param {Response} response
 * @param {(data: string) => void} onData
 * @param {(comment: string) => void} onComment
 */
async function readEvents(response, onData, onComment) {
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let rest = "";
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      if (block.startsWith("data:")) onData(block.slice(5).trimStart());
      else if (block.startsWith(":")) onComment(block.slice(1).trim());
    }
  }
}

/**
 * One answer on its way. `job` is its id, `seq` the number of events read, so that a reader who comes
 * back asks for those after it. Until the answer is `accepted`, the gateway may not know it.
 */
export class AnswerStream {
  #listener;
  #ended = false;
  /** @type {number | null} */
  #retryAfter = null;
  #aborter = new AbortController();

  /**
   * @param {string} job
   * @param {StreamListener} listener
   * @param {number} [seq]
   */
  constructor(job, listener, seq = 0) {
    this.job = job;
    this.seq = seq;
    this.accepted = false;
    /** @type {string | null} */
    this.finish = null;
    this.#listener = listener;
  }

  /**
   * Ask for the answer. Raises ApiError when the gateway refuses: then there is no answer.
   *
   * @param {object} request
   * @param {Record<string, string>} [more] headers
   */
  async ask(request, more = {}) {
    const headers = { ...more, "X-Request-Id": this.job, "X-Roxy-Keep": "true", "X-Roxy-Queue-Updates": "true" };
    const body = JSON.stringify(request);
    const response = await call("chat/completions", {
      method: "POST",
      body,
      headers,
      signal: this.#aborter.signal,
    });
    this.job = response.headers.get("X-Request-Id") ?? this.job;
    this.accepted = true;
    return response;
  }

  /**
   * Read an answer to its end, attaching again as often as needed; null: attach at once.
   *
   * @param {Response | null} first
   */
  async follow(first) {
    let response = first;
    let failures = 0;
    while (!this.#ended) {
      const before = this.seq;
      try {
        await this.#read(response ?? (await this.#attach()));
        failures = this.seq > before ? 0 : failures + 1;
      } catch (error) {
        if (this.#ended || isAbort(error)) return;
        if (error instanceof ApiError && SESSION_CODES.includes(error.code)) {
          this.#listener.state("signedOut", {}); // the answer goes on: the page reads it after the next sign-in
          return;
        }
        if (this.#isFinal(error, failures)) {
          this.#end("interrupted", error);
          return;
        }
        failures += 1;
      }
      response = null;
      if (this.#ended || !failures) continue;
      if (failures > RETRIES_MS.length) this.#end("interrupted", new Unreachable());
      else {
        this.#listener.state(this.accepted ? "reconnecting" : "sending", {});
        await this.#wait(RETRIES_MS[failures - 1]);
      }
    }
  }

  /**
   * True if attaching again cannot help. A 404 before the acceptance: the request may not have arrived yet.
   *
   * @param {unknown} error
   * @param {number} failures
   * @returns {error is ApiError}
   */
  #isFinal(error, failures) {
    if (!(error instanceof ApiError) || error instanceof Unreachable) return false;
    const mayArrive = !this.accepted && error.status === 404 && failures < LOOKS;
    return error.status < 500 && error.status !== 429 && !mayArrive;
  }

  /** Stop the answer, in whatever state; the listener gets nothing that arrives later. */
  async stop() {
    if (this.#ended) return;
    this.#end("stopped");
    // A browser opens six connections to a server: with six answers under way the call below would
    // wait for this answer's own.
    if (this.accepted) this.#aborter.abort();
    for (const wait of [0, 200, 800, 2000, 5000]) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        await call(`jobs/${this.job}`, { method: "DELETE" });
        break;
      } catch (error) {
        // 404: the request may not have arrived yet; it is stopped once it has.
        if (error instanceof ApiError && !(error instanceof Unreachable) && error.status !== 404) break;
      }
    }
    this.#aborter.abort();
  }

  async #attach() {
    const response = await call(`jobs/${this.job}/stream?after=${this.seq}`, {
      headers: { "X-Roxy-Queue-Updates": "true" },
      signal: this.#aborter.signal,
    });
    this.accepted = true;
    return response;
  }

  /**
   * Wait, until the gateway can be reached again at the latest.
   *
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #wait(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      const now = () => {
        clearTimeout(timer);
        resolve();
      };
      window.addEventListener("online", now, { once: true });
      document.addEventListener(REACHABLE_EVENT, now, { once: true });
      this.#aborter.signal.addEventListener("abort", now, { once: true });
    });
  }

  /** @param {Response} response */
  async #read(response) {
    try {
      await readEvents(
        response,
        (data) => this.#take(data),
        (comment) => this.#note(comment),
      );
    } catch (error) {
      if (isAbort(error)) throw error;
      // The connection broke: what was read counts, the rest is asked for again.
    }
  }

  /** @param {string} comment */
  #note(comment) {
    if (this.#ended) return;
    const queued = /^queued position=(\d+) waiting=(\d+) expected_wait_s=([\d.]+)/.exec(comment);
    if (queued) {
      const [position, waiting, wait] = queued.slice(1).map(Number);
      this.#listener.state("queued", { position, waiting, wait });
    } else if (comment === "attached") {
      this.#listener.attached();
    } else if (comment === "connecting" || comment === "retrying") {
      this.#listener.state(comment, {});
    } else if (comment.startsWith("retry_after_s=")) {
      this.#retryAfter = Number(comment.slice(14)); // belongs to the error event that follows
    }
  }

  /** @param {string} data */
  #take(data) {
    if (this.#ended) return;
    this.seq += 1;
    if (data === "[DONE]") {
      this.#end("done");
      return;
    }
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      return; // not JSON: nothing for this page
    }
    if (chunk.error) {
      const error = new ApiError(0, chunk.error, this.#retryAfter);
      this.#end(ENDINGS[error.code] ?? "failed", error);
      return;
    }
    const choice = chunk.choices?.[0];
    if (!choice) return;
    this.finish = choice.finish_reason ?? this.finish;
    const delta = choice.delta ?? {};
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    const text = (delta.content ?? "") + (delta.refusal ?? "");
    if (text || reasoning) this.#listener.delta(text, typeof reasoning === "string" ? reasoning : "");
  }

  /**
   * @param {Ending} ending
   * @param {ApiError | null} [error]
   */
  #end(ending, error = null) {
    if (this.#ended) return;
    this.#ended = true;
    this.#listener.end({ ending, error });
  }
}
