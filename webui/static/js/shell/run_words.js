// Requests that a page sends for a try: their ids, and their states, results and errors in words.

import { ApiError, callJson } from "./api.js";
import { count, fill, money, seconds, texts } from "./page.js";

/** @import { Ending, QueuePlace, StreamState } from "./answer_stream.js" */

const USED_MS = [0, 100, 300, 800, 2000];

/** @type {Record<Ending, string>} */
export const END_WORDS = {
  done: texts.page.complete,
  stopped: texts.page.stopped,
  failed: texts.page.failed,
  interrupted: texts.page.interrupted,
};

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
 * @param {string} [message] in the page's language, instead of the API's in English
 */
export function errorWords(error, message = error.message) {
  const code = error.code ? ` (${error.status ? `${error.status} ` : ""}${error.code})` : "";
  const wait = error.retryAfter ? ` ${fill(texts.page.try_again_in, { time: seconds(error.retryAfter) })}` : "";
  return `${message}${code}${wait}`;
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
      return fill(wait >= 1 ? texts.page.queue_place_wait : texts.page.queue_place, {
        position: position ?? "",
        waiting: waiting ?? "",
        time: seconds(wait),
      });
    case "connecting":
      return texts.page.connecting;
    case "retrying":
      return texts.page.retrying;
    default:
      return texts.page.reconnecting;
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
    if (usage) {
      const { prompt_tokens: prompt = 0, completion_tokens: completion = 0 } = usage;
      words.push(fill(texts.page.tokens_used, { prompt: count(prompt), completion: count(completion) }));
    }
    if (cost !== null) words.push(money(cost));
    if (ttft !== null) words.push(fill(texts.page.first_text_after, { time: seconds(ttft) }));
    if (speed) words.push(fill(texts.page.speed, { count: count(Math.round(speed)) }));
    return words.join(" · ");
  }
  return "";
}
