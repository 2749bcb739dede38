// Requests that a page sends for a try: their ids, and their states, results and errors in words.

import { ApiError, callJson } from "./api.js";
import { count, money, seconds } from "./page.js";

/** @import { Ending, QueuePlace, StreamState } from "./answer_stream.js" */

const USED_MS = [0, 100, 300, 800, 2000];

/** @type {Record<Ending, string>} */
export const END_WORDS = { done: "Complete", stopped: "Stopped", failed: "Failed", interrupted: "Interrupted" };

/**
 * Return a new id of a request, which begins with the page that makes it.
 *
 * @param {string} from
 */
export function newId(from) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${from}-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Return what went wrong, and when to try again.
 *
 * @param {ApiError} error
 */
export function errorWords(error) {
  const code = error.code ? ` (${error.status ? `${error.status} ` : ""}${error.code})` : "";
  const wait = error.retryAfter ? ` Try again in ${seconds(error.retryAfter)}.` : "";
  return `${error.message}${code}${wait}`;
}

/**
 * Return what a request is doing.
 *
 * @param {StreamState} name
 * @param {QueuePlace} place
 */
export function stateWords(name, { position, waiting, wait = 0 }) {
  switch (name) {
    case "queued":
      return `Position ${position} of ${waiting} in the queue${wait >= 1 ? `, about ${seconds(wait)}` : ""}`;
    case "connecting":
      return "Contacting the provider";
    case "retrying":
      return "The provider failed, trying another one";
    default:
      return "Connection lost, reconnecting";
  }
}

/**
 * Return what an answer used, as the server has counted it.
 *
 * @param {string} job
 */
export async function usedWords(job) {
  for (const wait of USED_MS) {
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
    const status = await callJson(`jobs/${job}`).catch(() => null);
    if (!status) break;
    if (status.state !== "done" || status.duration_s === null) continue;
    const { usage, cost_microusd: cost, ttft_s: ttft, tokens_per_s: speed } = status;
    const words = [];
    if (usage) words.push(`${count(usage.prompt_tokens ?? 0)} tokens in, ${count(usage.completion_tokens ?? 0)} out`);
    if (cost !== null) words.push(money(cost));
    if (ttft !== null) words.push(`first text after ${seconds(ttft)}`);
    if (speed) words.push(`${Math.round(speed)} tokens/s`);
    return words.join(" · ");
  }
  return "";
}
