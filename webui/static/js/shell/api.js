// Calls of the gateway's API with the token of the page's session, and errors as exceptions.

import { fill, pageMeta, sessionEnded, texts } from "./page.js";

const API = "/api/v1/";
/** The event that follows each call without an answer. */
export const UNREACHABLE_EVENT = "roxy-unreachable";

/** Return the headers that show that a call comes from a page of this gateway, and whom it was made for. */
export const pageHeaders = () => ({ "X-Roxy-Xsrf": pageMeta("xsrf"), "X-Roxy-Visitor": pageMeta("visitor") });

/**
 * The `error` object of an API answer.
 *
 * @typedef {{ message?: string, code?: string, type?: string }} ErrorBody
 */

/** An answer other than success. `retryAfter` is in seconds, null where the gateway gave none. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {ErrorBody} error
   * @param {number | null} [retryAfter]
   */
  constructor(status, error, retryAfter = null) {
    super(error.message ?? fill(texts.page.answered_with, { status }));
    this.status = status;
    this.code = error.code ?? error.type ?? "";
    this.retryAfter = retryAfter;
  }
}

/** The gateway could not be reached. */
export class Unreachable extends ApiError {
  constructor() {
    super(0, { message: texts.page.unreachable, code: "unreachable" });
  }
}

/**
 * Why a session ended: what the API says of it, and the text for it.
 *
 * @type {[said: RegExp, text: string, ofKey?: boolean][]}
 */
const ENDS = [
  [/key was revoked/, texts.page.key_revoked, true],
  [/key is disabled/, texts.page.key_disabled, true],
  [/key has expired/, texts.page.key_expired, true],
  [/another key/, texts.page.other_key],
  [/signed in since/, texts.page.signed_in_since],
  [/long time/, texts.page.open_too_long],
  [/Guest access/, texts.page.no_guests],
];

/**
 * @param {string} message
 * @param {boolean} changed
 */
function endSession(message, changed) {
  const [, text, ofKey] = ENDS.find(([said]) => said.test(message)) ?? [null, texts.page.signed_out];
  sessionEnded(text, changed, ofKey);
}

/** @param {Response} response */
async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const { code, message } = body.error ?? {};
  if (code === "session_ended" || code === "session_changed") endSession(message, code === "session_changed");
  return new ApiError(response.status, body.error ?? {}, Number.isFinite(wait) ? wait : null);
}

/**
 * Call the API. Raises ApiError for a refusal, Unreachable without an answer, and the AbortError of `signal`.
 *
 * @typedef {object} CallOptions
 * @property {string} [method]
 * @property {string | Blob} [body] JSON, or the content of a file
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [keepalive] whether the call outlives the page
 *
 * @param {string} path
 * @param {CallOptions} [options]
 */
export async function call(path, { method = "GET", body, headers, signal, keepalive } = {}) {
  /** @type {Record<string, string>} */
  const sent = { ...pageHeaders(), ...headers };
  if (typeof body === "string") sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(API + path, { method, headers: sent, body, signal, keepalive, cache: "no-store" });
  } catch (error) {
    if (isAbort(error)) throw error;
    document.dispatchEvent(new Event(UNREACHABLE_EVENT));
    throw new Unreachable();
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/**
 * Call the API and return the JSON of its answer.
 *
 * @param {string} path
 * @param {CallOptions} [options]
 */
export const callJson = async (path, options) => (await call(path, options)).json();

/**
 * True if an exception only says that a call was aborted.
 *
 * @param {unknown} error
 */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";
