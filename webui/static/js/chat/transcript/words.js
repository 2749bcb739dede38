// Where an answer is and how it ended, in words.

import { plural, seconds } from "../../shell/page.js";
import { actionFor, CONTINUE, RETRY } from "../state/answer.js";

/** @import { Answer } from "../state/answer.js" */
/** @import { Action, AnswerRecord } from "../state/types.js" */

/**
 * Return where an answer is.
 *
 * @param {Answer} answer
 */
export function phaseWords({ phase: { name, position, waiting } }) {
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
    case "signedOut":
      return "The answer continues on the server. Sign in again to see it";
    default:
      return "Connection lost, reconnecting";
  }
}

/**
 * Return the expected wait or the speed, "" where neither is known.
 *
 * @param {Answer} answer
 */
export function paceWords({ phase: { name, wait = 0 }, speed }) {
  if (name === "queued" && wait >= 1) return `, about ${seconds(Math.round(wait)).replace(".0", "")}`;
  return name === "writing" && speed ? ` ≈ ${Math.round(speed)} tokens/s` : "";
}

/**
 * Why an answer ended as it did, and what can be done.
 *
 * @typedef {object} Explanation
 * @property {"calm" | "warn" | "bad"} tone
 * @property {string} text
 * @property {string} [icon]
 * @property {(Action | null)[]} [actions]
 */

/**
 * Return what has to be explained about an answer; null: nothing.
 *
 * @param {AnswerRecord} message
 * @param {boolean} isLast whether nothing follows it
 * @returns {Explanation | null}
 */
export function explain(message, isLast) {
  const rest = message.text && isLast ? CONTINUE : null;
  const kept = message.text ? " The text received so far is kept." : "";
  switch (message.state) {
    case "stopped":
      return { tone: "calm", icon: "square", text: message.error?.message ?? "Stopped." };
    case "interrupted": {
      const text = `The answer was interrupted: the gateway restarted, or no longer has it.${kept}`;
      return { tone: "warn", icon: "triangle-alert", text, actions: [rest, RETRY] };
    }
    case "failed": {
      const { message: text, code } = message.error ?? { message: "The answer failed.", code: "" };
      return { tone: "bad", text: `${text}${kept}`, actions: [rest, actionFor({ code })] };
    }
    case "done":
      return explainFinish(message, rest);
    default:
      return null;
  }
}

/**
 * @param {AnswerRecord} message
 * @param {Action | null} rest
 * @returns {Explanation | null}
 */
function explainFinish({ finish, text }, rest) {
  if (finish === "length") {
    return { tone: "calm", icon: "circle-alert", text: "The answer reached the length limit.", actions: [rest] };
  }
  if (finish === "content_filter") {
    return { tone: "warn", icon: "triangle-alert", text: "The provider's content filter stopped the answer." };
  }
  if (!text) return { tone: "warn", icon: "triangle-alert", text: "The answer is empty.", actions: [RETRY] };
  return null;
}

/**
 * Return how an answer ended, for screen readers.
 *
 * @param {AnswerRecord} message
 */
export function endWords({ state, text }) {
  if (state === "stopped") return "Stopped";
  if (state === "failed") return "The answer failed";
  if (state === "interrupted") return "The answer was interrupted";
  return `Response complete, ${plural(text.split(/\s+/).filter(Boolean).length, "word")}`;
}
