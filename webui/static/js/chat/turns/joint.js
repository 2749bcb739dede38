// Joining the second part of an answer to the first one, without a word twice or a space too few.
//
// The model is asked to begin with the last words of the first part. What it sends is held back until it
// is known how much of it is a repetition.

import { Sifter } from "./thoughts.js";

/** @import { AnswerRecord } from "../state/types.js" */

const TAIL_CHARS = 60;
/** A repetition that is shorter may be chance. */
const MIN_REPEATED_CHARS = 8;
const SPACED = /[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{Nd}]/u;

/**
 * Return the last words of a text.
 *
 * @param {string} text
 */
function tailOf(text) {
  const tail = text.trimEnd().slice(-TAIL_CHARS);
  const space = tail.search(/\s/);
  return tail.length < TAIL_CHARS || space < 0 ? tail : tail.slice(space).trimStart();
}

/**
 * Return what asks a model to go on with its last answer.
 *
 * @param {string} text of that answer
 */
export const continuePrompt = (text) =>
  "Your last answer was cut off. Continue it exactly where it stopped, in the same format. Begin by repeating " +
  `these last words of it, so that the two parts can be joined, and add no comment:\n\n${tailOf(text)}`;

/** The place where two parts of an answer meet. */
export class Joint {
  #before;
  #sifter;
  #held = "";
  #open = true;

  /** @param {AnswerRecord} first the first part */
  constructor(first) {
    this.#before = first.text;
    this.#sifter = new Sifter(first);
  }

  /**
   * Take new text of the second part, and return what follows the first part now.
   *
   * @param {string} sent
   */
  push(sent) {
    return this.#add(this.#sifter.push(sent));
  }

  /** Return what is still held back: the second part is complete. */
  end() {
    return this.#add(this.#sifter.end()) + this.#release();
  }

  /** @param {string} text */
  #add(text) {
    if (!this.#open) return text;
    this.#held += text;
    if (this.#before.includes(this.#held.trim())) return ""; // so far all of it may be a repetition
    return this.#release();
  }

  #release() {
    if (!this.#open) return "";
    this.#open = false;
    const repeated = this.#repeated();
    if (repeated) return this.#held.slice(repeated);
    const text = this.#held.trimStart();
    const [last, first] = [this.#before.at(-1) ?? "", text[0] ?? ""];
    const glued = text === this.#held && SPACED.test(first) && (SPACED.test(last) || /[,;:.!?]/.test(last));
    return glued ? ` ${text}` : this.#held;
  }

  /** Return how many of the letters held repeat the end of the first part. */
  #repeated() {
    const skipped = this.#held.length - this.#held.trimStart().length;
    const text = this.#held.trimStart();
    const before = this.#before.trimEnd();
    const trailing = this.#before.length - before.length;
    for (let length = Math.min(text.length, before.length); length >= MIN_REPEATED_CHARS; length -= 1) {
      if (!before.endsWith(text.slice(0, length))) continue;
      const rest = text.slice(length);
      const spaces = Math.min(trailing, rest.length - rest.trimStart().length);
      return skipped + length + spaces;
    }
    return 0;
  }
}
