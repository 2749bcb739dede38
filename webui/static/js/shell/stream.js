// Talking to the gateway: calls with the session's token, errors with what to do about them, and an
// answer that is read as it comes and found again when the connection is lost.

const API = "/api/v1/";
const RETRIES_MS = [300, 1000, 2000, 4000, 8000, 15000, 30000];
/** How often a request is looked for that may still be on its way. */
const LOOKS = 6;
const ENDINGS = { stopped: "stopped", abandoned: "stopped", server_is_draining: "interrupted" };
const xsrf = () => document.querySelector('meta[name="roxy-xsrf"]')?.content ?? "";

/** An answer other than success. `retryAfter` is in seconds, null where none was told. */
export class ApiError extends Error {
  constructor(status, error, retryAfter = null) {
    super(error.message ?? `The gateway answered with ${status}.`);
    this.status = status;
    this.code = error.code ?? error.type ?? "";
    this.kind = error.type ?? "";
    this.retryAfter = retryAfter;
  }
}

/** The gateway could not be reached. */
export class Unreachable extends Error {
  constructor() {
    super("The gateway cannot be reached.");
    this.code = "unreachable";
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  return new ApiError(response.status, body.error ?? {}, Number.isFinite(wait) ? wait : null);
}

/** Call the API. Raises ApiError, or Unreachable when there is no answer. */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  const sent = { "X-Roxy-Xsrf": xsrf(), ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(API + path, { method, headers: sent, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export const callJson = async (path, options) => (await call(path, options)).json();

/** Read server-sent events: `onData` gets each event's text, `onComment` each comment. */
async function readEvents(response, onData, onComment) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data:")) onData(block.slice(5).trimStart());
      else if (block.startsWith(":")) onComment(block.slice(1).trim());
    }
  }
}

/**
 * One answer on its way. `job` is its id, `seq` how many events were taken, so that a reader who
 * comes back asks for those after it. The listener's methods: `state(name, details)`,
 * `delta(text, reasoning)`, and once `end({ ending, error })` with the ending "done", "stopped",
 * "failed" or "interrupted" (nobody knows how it went on).
 */
export class AnswerStream {
  constructor(job, listener, seq = 0) {
    this.job = job;
    this.seq = seq;
    this.accepted = false;
    this.model = null;
    this.finish = null;
    this._listener = listener;
    this._ended = false;
    this._retryAfter = null;
    this._aborter = new AbortController();
  }

  /** Ask for the answer. Raises when the request is refused: then there is no answer at all. */
  async ask(request) {
    const headers = { "X-Request-Id": this.job, "X-Roxy-Keep": "true", "X-Roxy-Queue-Updates": "true" };
    const body = JSON.stringify(request);
    const response = await call("chat/completions", {
      method: "POST",
      body,
      headers,
      signal: this._aborter.signal,
    });
    this.job = response.headers.get("X-Request-Id") ?? this.job;
    this.accepted = true;
    return response;
  }

  /** Read an answer to its end, attaching again as often as needed; null: attach at once. */
  async follow(response) {
    let failures = 0;
    while (!this._ended) {
      const before = this.seq;
      try {
        await this._read(response ?? (await this._attach()));
        failures = this.seq > before ? 0 : failures + 1;
      } catch (error) {
        if (this._ended || error.name === "AbortError") return;
        const onItsWay = !this.accepted && error.status === 404 && failures < LOOKS;
        if (error instanceof ApiError && error.status < 500 && error.status !== 429 && !onItsWay) {
          this._end("interrupted", error);
          return;
        }
        failures += 1;
      }
      response = null;
      if (this._ended || !failures) continue;
      if (failures > RETRIES_MS.length) this._end("interrupted", new Unreachable());
      else {
        this._listener.state(this.accepted ? "reconnecting" : "sending", {});
        await this._wait(RETRIES_MS[failures - 1]);
      }
    }
  }

  /** Stop it, in whatever state: nothing that comes after this is shown. */
  async stop() {
    if (this._ended) return;
    this._end("stopped");
    // A browser opens six connections to a server: with six answers under way the call below would
    // wait for this answer's own.
    if (this.accepted) this._aborter.abort();
    for (const wait of [0, 200, 800, 2000, 5000]) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        await call(`jobs/${this.job}`, { method: "DELETE" });
        break;
      } catch (error) {
        // 404: the request may be on its way still; it is stopped when it has arrived.
        if (error instanceof ApiError && error.status !== 404) break;
      }
    }
    this._aborter.abort();
  }

  /** Read no more, and leave the answer to itself. */
  leave() {
    this._ended = true;
    this._aborter.abort();
  }

  async _attach() {
    const response = await call(`jobs/${this.job}/stream?after=${this.seq}`, {
      headers: { "X-Roxy-Queue-Updates": "true" },
      signal: this._aborter.signal,
    });
    this.accepted = true;
    return response;
  }

  _wait(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      const now = () => {
        clearTimeout(timer);
        resolve();
      };
      window.addEventListener("online", now, { once: true });
      this._aborter.signal.addEventListener("abort", now, { once: true });
    });
  }

  async _read(response) {
    try {
      await readEvents(
        response,
        (data) => this._take(data),
        (comment) => this._note(comment),
      );
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // The connection broke: what was read counts, the rest is asked for again.
    }
  }

  _note(comment) {
    if (this._ended) return;
    const queued = /^queued position=(\d+) waiting=(\d+) expected_wait_s=([\d.]+)/.exec(comment);
    if (queued) {
      const [position, waiting, wait] = queued.slice(1).map(Number);
      this._listener.state("queued", { position, waiting, wait });
    } else if (comment === "connecting" || comment === "retrying") {
      this._listener.state(comment, {});
    } else if (comment.startsWith("retry_after_s=")) {
      this._retryAfter = Number(comment.slice(14)); // the error that follows passes by then
    }
  }

  _take(data) {
    if (this._ended) return;
    this.seq += 1;
    if (data === "[DONE]") {
      this._end("done");
      return;
    }
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      return; // an event that is no JSON says nothing to us
    }
    if (chunk.error) {
      const error = new ApiError(0, chunk.error, this._retryAfter);
      this._end(ENDINGS[error.code] ?? "failed", error);
      return;
    }
    this.model = chunk.model ?? this.model;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    this.finish = choice.finish_reason ?? this.finish;
    const delta = choice.delta ?? {};
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    const text = (delta.content ?? "") + (delta.refusal ?? "");
    if (text || reasoning) this._listener.delta(text, typeof reasoning === "string" ? reasoning : "");
  }

  _end(ending, error = null) {
    if (this._ended) return;
    this._ended = true;
    this._listener.end({ ending, error });
  }
}
