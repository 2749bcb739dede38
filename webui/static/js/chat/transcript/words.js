// Where an answer is and how it ended, in words.

import { count, fill, language, pluralText, seconds, texts } from "../../shell/page.js";
import { actionFor, CONTINUE, CUT_BY_SIGN_IN, OTHER_MODEL, RETRY } from "../state/answer.js";
import { answerText } from "../turns/thoughts.js";

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
      return texts.transcript.sending;
    case "queued":
      return fill(texts.page.queue_place, { position: position ?? 0, waiting: waiting ?? 0 });
    case "connecting":
      return texts.page.connecting;
    case "retrying":
      return texts.page.retrying;
    case "thinking":
      return texts.transcript.thinking;
    case "writing":
      return texts.transcript.writing;
    case "signedOut":
      return texts.transcript.signed_out;
    default:
      return texts.page.reconnecting;
  }
}

/**
 * Return where an answer is, with the expected wait or the speed where it is known.
 *
 * @param {Answer} answer
 */
export function stateWords(answer) {
  const { phase, speed } = answer;
  const { name, position = 0, waiting = 0, wait = 0 } = phase;
  if (name === "queued" && wait >= 1)
    return fill(texts.page.queue_place_wait, { position, waiting, time: wholeSeconds(Math.round(wait)) });
  if (name === "writing" && speed) return fill(texts.transcript.writing_at, { speed: count(Math.round(speed)) });
  return phaseWords(answer);
}

/**
 * Return a whole number of seconds as text, without decimals.
 *
 * @param {number} s
 */
export const wholeSeconds = (s) => (s < 10 ? `${s} s` : seconds(s));

/**
 * Why an answer ended as it did, and what can be done.
 *
 * @typedef {object} Explanation
 * @property {"calm" | "warn" | "bad"} tone
 * @property {string} text
 * @property {string} [icon]
 * @property {(Action | null)[]} [actions]
 */

/** Codes of answers that ended with the session of their person. */
const OF_SESSION = new Set(["invalid_api_key", "session_ended"]);

/**
 * Return what has to be explained about an answer; null: nothing.
 *
 * @param {AnswerRecord} message
 * @param {boolean} isLast whether nothing follows it
 * @param {object | null} ended why nothing can be sent from this page; null: it can
 * @returns {Explanation | null}
 */
export function explain(message, isLast, ended = null) {
  const explained = explainEnd(message, isLast);
  if (!explained) return null;
  if (ended) return { ...explained, actions: [] }; // the message box has the one thing that helps
  if (!OF_SESSION.has(message.error?.code ?? "")) return explained;
  return { ...explained, actions: [explained.actions?.[0] ?? RETRY] }; // signed in again: the person goes on here
}

/**
 * @param {AnswerRecord} message
 * @param {boolean} isLast
 * @returns {Explanation | null}
 */
function explainEnd(message, isLast) {
  const answer = answerText(message);
  const rest = answer && isLast ? CONTINUE : null;
  /** @param {string} text */
  const withRest = (text) => (answer ? fill(texts.transcript.and_kept, { text }) : text);
  switch (message.state) {
    case "stopped":
      return {
        ...{ tone: "calm", icon: "square", text: message.error?.message ?? texts.transcript.stopped },
        actions: [rest],
      };
    case "interrupted": {
      const { error } = message;
      const isCut = error?.code === CUT_BY_SIGN_IN;
      const text = withRest(isCut ? error.message : texts.transcript.answer_interrupted);
      return { tone: "warn", icon: "triangle-alert", text, actions: [rest, RETRY] };
    }
    case "failed": {
      const { message: text, code } = message.error ?? { message: texts.transcript.answer_failed, code: "" };
      return { tone: "bad", text: withRest(text), actions: [rest, actionFor({ code })] };
    }
    case "done":
      return explainFinish(message, answer, rest);
    default:
      return null;
  }
}

/**
 * @param {AnswerRecord} message
 * @param {string} answer
 * @param {Action | null} rest
 * @returns {Explanation | null}
 */
function explainFinish({ finish }, answer, rest) {
  if (finish === "length") {
    return { tone: "calm", icon: "circle-alert", text: texts.transcript.length_limit, actions: [rest] };
  }
  if (finish === "content_filter") {
    return { tone: "warn", icon: "triangle-alert", text: texts.transcript.content_filter, actions: [OTHER_MODEL] };
  }
  if (!answer) return { tone: "warn", icon: "triangle-alert", text: texts.transcript.empty, actions: [RETRY] };
  return null;
}

/**
 * Return how an answer ended, for screen readers.
 *
 * @param {AnswerRecord} message
 */
export function endWords(message) {
  const { state } = message;
  if (state === "stopped") return texts.page.stopped;
  if (state === "failed") return texts.transcript.ended_failed;
  if (state === "interrupted") return texts.transcript.ended_interrupted;
  return pluralText(texts.transcript.ended, countWords(answerText(message)));
}

/**
 * Return how many words a text has, in languages without spaces too.
 *
 * @param {string} text
 */
function countWords(text) {
  const parts = new Intl.Segmenter(language, { granularity: "word" }).segment(text);
  return [...parts].filter(({ isWordLike }) => isWordLike).length;
}
