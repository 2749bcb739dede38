// Reasoning that stands in the text of an answer, because the upstream runs without a reasoning parser.
//
// It stands at the beginning, between marks of its own. vLLM, llama.cpp and LM Studio send Qwen's and DeepSeek's
// as <think>...</think>; where the chat template has written the first mark itself only </think> comes, on a line of
// its own. The records and the API keep the text as it was sent: only what is shown and copied is without it.

/** @import { AnswerRecord } from "../state/types.js" */

/** The marks around reasoning: Qwen and DeepSeek, others like them, Seed, Magistral, Command, gpt-oss. */
const MARKS = [
  ["<think>", "</think>"],
  ["<thinking>", "</thinking>"],
  ["<seed:think>", "</seed:think>"],
  ["[THINK]", "[/THINK]"],
  ["<|START_THINKING|>", "<|END_THINKING|>"],
  ["<|channel|>analysis<|message|>", "<|end|>"],
];
/** What may stand between the reasoning of gpt-oss and its answer. */
const FINAL = "<|start|>assistant<|channel|>final<|message|>";
const LAST = "</think>";
const LAST_ALONE = /^ {0,3}<\/think>[ \t]*$/m;
const FENCED = /^ {0,3}(`{3,}|~{3,})[^\n]*\n[\s\S]*?(?:^ {0,3}\1[`~]*[ \t]*$|(?![\s\S]))/gm;

/**
 * The text of an answer in parts: its reasoning, and where the answer itself begins. `isOpen`: the end of the
 * reasoning has not come.
 *
 * @typedef {{ thoughts: string, begin: number, isOpen: boolean }} Parts
 */

/**
 * Return the parts of a text. While it `grows`, a part of a mark at its end belongs to neither.
 *
 * @param {string} text
 * @param {{ grows?: boolean, isInside?: boolean, isParsed?: boolean }} [how] `isInside`: the first mark was in the
 *   prompt; `isParsed`: the upstream has sent reasoning apart, so that a last mark alone is a part of the answer
 * @returns {Parts}
 */
export function partsOf(text, { grows = false, isInside = false, isParsed = false } = {}) {
  /** @type {string[]} */
  const thoughts = [];
  let begin = 0;
  for (;;) {
    const found = isInside && !begin ? { at: 0, last: LAST } : firstMark(text, begin);
    if (!found) break;
    const end = text.indexOf(found.last, found.at);
    if (end < 0) {
      const rest = text.slice(found.at);
      thoughts.push(grows ? withoutHalf(rest, found.last) : rest);
      return { thoughts: joined(thoughts), begin: text.length, isOpen: true };
    }
    thoughts.push(text.slice(found.at, end));
    begin = afterSpaces(text, end + found.last.length);
    if (text.startsWith(FINAL, begin)) begin = afterSpaces(text, begin + FINAL.length);
  }
  if (grows && isHalfMark(text.slice(begin).trimStart(), begin > 0))
    return { thoughts: joined(thoughts), begin: text.length, isOpen: true };
  if (!begin && !isParsed) return partsAtLastMark(text);
  return { thoughts: joined(thoughts), begin, isOpen: false };
}

/**
 * Return the parts of an answer's text.
 *
 * @param {Pick<AnswerRecord, "text"> & Partial<Pick<AnswerRecord, "state" | "reasoning">>} message
 */
export const partsOfAnswer = ({ text, state, reasoning }) =>
  partsOf(text, { grows: state === "open", isParsed: Boolean(reasoning) });

/**
 * Return the answer itself, without reasoning.
 *
 * @param {Parameters<typeof partsOfAnswer>[0]} message
 */
export const answerText = (message) => message.text.slice(partsOfAnswer(message).begin);

/** The second part of an answer as it comes, without its reasoning. */
export class Sifter {
  #text = "";
  #passed = 0;
  #isInside;

  /** @param {AnswerRecord} first the first part: where the prompt had its first mark it has this one's too */
  constructor(first) {
    this.#isInside = !firstMark(first.text, 0) && partsOfAnswer(first).begin > 0;
  }

  /**
   * Take new text, and return what is new of the answer.
   *
   * @param {string} text
   */
  push(text) {
    this.#text += text;
    return this.#from(partsOf(this.#text, { grows: true, isInside: this.#isInside }).begin);
  }

  /** Return what was held back: the text is complete. */
  end() {
    const { begin, isOpen } = partsOf(this.#text, { isInside: this.#isInside });
    return this.#from(isOpen && this.#isInside ? 0 : begin); // it went on at once, without reasoning
  }

  /** @param {number} begin */
  #from(begin) {
    const text = this.#text.slice(Math.max(begin, this.#passed));
    if (text) this.#passed = this.#text.length;
    return text;
  }
}

/**
 * Return where reasoning begins, behind the mark that stands next, and its last mark; null: no mark stands there.
 *
 * @param {string} text
 * @param {number} from
 */
function firstMark(text, from) {
  const begin = afterSpaces(text, from);
  const found = MARKS.find(([first]) => text.startsWith(first, begin));
  return found ? { at: begin + found[0].length, last: found[1] } : null;
}

/**
 * True if a text may become a first mark; one without a letter may become anything.
 *
 * @param {string} text
 * @param {boolean} isAfter whether reasoning stands before it
 */
const isHalfMark = (text, isAfter) =>
  MARKS.some(([first]) => first.startsWith(text)) || (isAfter && FINAL.startsWith(text));

/**
 * Return a text without the part of a mark at its end.
 *
 * @param {string} text
 * @param {string} mark
 */
function withoutHalf(text, mark) {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length -= 1)
    if (mark.startsWith(text.slice(-length))) return text.slice(0, -length);
  return text;
}

/**
 * Return the parts of a text whose first mark may have been in the prompt. A last mark in code, or amid other
 * words, is something that the answer speaks of.
 *
 * @param {string} text
 * @returns {Parts}
 */
function partsAtLastMark(text) {
  const whole = { thoughts: "", begin: 0, isOpen: false };
  if (!text.includes(LAST)) return whole;
  const line = LAST_ALONE.exec(text);
  if (!line) return whole;
  const at = text.indexOf(LAST, line.index);
  const isCode = [...text.matchAll(FENCED)].some(({ index, 0: code }) => index < at && at < index + code.length);
  if (isCode) return whole;
  return { thoughts: joined([text.slice(0, at)]), begin: afterSpaces(text, at + LAST.length), isOpen: false };
}

/**
 * Return the next place in a text that is no white space.
 *
 * @param {string} text
 * @param {number} from
 */
function afterSpaces(text, from) {
  const SPACES = /\s*/y;
  SPACES.lastIndex = from;
  SPACES.test(text);
  return SPACES.lastIndex;
}

/** @param {string[]} thoughts */
const joined = (thoughts) =>
  thoughts
    .map((one) => one.trim())
    .filter(Boolean)
    .join("\n\n");
