// How often an answer that is being written is saved to the server: the gateway keeps its text.

/** @import { AnswerRecord } from "../state/types.js" */

const OPEN_SAVE_MS = 10_000;

/** Knows when open answers were last put into the outbox. */
export class OpenSaves {
  /** @type {Map<string, number>} */
  #saved = new Map();

  /**
   * True while an answer that is being written was saved a moment ago.
   *
   * @param {AnswerRecord} before
   * @param {AnswerRecord} now
   */
  isTooEarly(before, now) {
    const at = Date.now();
    const saved = this.#saved.get(now.id) ?? 0;
    if (before.state === "open" && before.accepted && now.state === "open" && at - saved < OPEN_SAVE_MS) return true;
    if (now.state === "open") this.#saved.set(now.id, at);
    else this.#saved.delete(now.id);
    return false;
  }
}
