// One turn of the conversation on the page: a question or an answer, with what stands below it.

import { count, el, fill, icon, iconButton, language, money, pluralText, seconds, texts } from "../../shell/page.js";
import { Blocks } from "../markdown/blocks.js";
import { renderQuestion } from "../markdown/question_text.js";
import { partsOfAnswer } from "../turns/thoughts.js";
import { explain, stateWords, wholeSeconds } from "./words.js";

/** @import { Answer } from "../state/answer.js" */
/** @import { Answers } from "../state/answers.js" */
/** @import { Chat } from "../state/chat.js" */
/** @import { AnswerRecord, FileRecord, Message, Question, Stats } from "../state/types.js" */

/** Answers shorter than this have no meaningful speed. */
const SHORT_S = 0.2;

/** @typedef {"usage" | "use" | "versions" | "time" | "buttons"} FootPart */

/**
 * What can stand below a turn, in this order.
 *
 * @type {FootPart[]}
 */
const PARTS = ["usage", "use", "versions", "time", "buttons"];

/** What questions and answers have in common. */
class Row {
  /** @type {{ [P in FootPart]?: { key: string, node: Element | null } }} */
  #parts = {};

  /**
   * @param {Message} message
   * @param {Chat} chat
   * @param {Answers} answers
   * @param {string} label
   * @param {string} heading
   */
  constructor(message, chat, answers, label, heading) {
    this.id = message.id;
    this.chat = chat;
    this.answers = answers;
    this.heading = el("h2", { class: "unseen" }, heading);
    this.root = el(
      "article",
      { class: `turn ${message.role}`, "aria-label": label, "data-id": message.id },
      this.heading,
    );
    this.foot = el("footer");
  }

  /**
   * Show a part of the foot; it is replaced only when `key` differs, so that a button about to be pressed
   * stays where it is. A null key shows none.
   *
   * @param {FootPart} name
   * @param {string | null} key
   * @param {() => Element} make
   */
  showPart(name, key, make) {
    const shown = this.#parts[name];
    if (shown ? shown.key === key : key === null) return;
    shown?.node?.remove();
    delete this.#parts[name];
    if (key === null) return;
    const node = make();
    this.#parts[name] = { key, node };
    const later = PARTS.slice(PARTS.indexOf(name) + 1);
    const next = later.map((other) => this.#parts[other]?.node).find(Boolean);
    this.foot.insertBefore(node, next ?? null);
  }

  /**
   * Show which of its versions a message is, where there are several.
   *
   * @param {Message} message
   */
  showVersions(message) {
    const versions = this.answers.versions(message);
    const isOpen = message.role === "assistant" && message.state === "open";
    const at = versions.indexOf(message) + 1;
    const alone = this.answers.sideBySide(message).length === 1;
    const key = !isOpen && alone && versions.length > 1 ? `${at} / ${versions.length}` : null;
    const models = versions.map((one) => (one.role === "assistant" ? one.model : ""));
    const differ = new Set(models).size > 1;
    /**
     * @param {number} n
     * @param {string} label
     * @param {string} withModel
     */
    const named = (n, label, withModel) =>
      differ && models[n] ? fill(withModel, { model: this.chat.modelName(models[n]) }) : label;
    const previous = named(at - 2, texts.transcript.previous_version, texts.transcript.previous_version_of);
    const next = named(at, texts.transcript.next_version, texts.transcript.next_version_of);
    this.showPart("versions", key, () =>
      el(
        "span",
        { class: "versions", role: "group", "aria-label": texts.transcript.versions },
        iconButton("chevron-left", previous, { "data-act": "previous", disabled: at === 1 }),
        el("span", {}, key),
        iconButton("chevron-right", next, {
          "data-act": "next",
          disabled: at === versions.length,
        }),
      ),
    );
  }
}

const NOW_SHOWN = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const DAY_SHOWN = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const WHOLE = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" });

/**
 * Return the time of a message; of an earlier day with its date.
 *
 * @param {Message} message
 */
function timeOf({ created }) {
  const read = new Date(created);
  const at = Number.isNaN(read.getTime()) ? new Date(0) : read; // other programs may have written it
  const shown = at.toDateString() === new Date().toDateString() ? NOW_SHOWN : DAY_SHOWN;
  return el("time", { datetime: at.toISOString(), title: WHOLE.format(at) }, shown.format(at));
}

/** @param {...HTMLElement} buttons */
const buttonGroup = (...buttons) => el("span", { class: "acts" }, ...buttons);

/** A question: its files and its text. */
export class QuestionRow extends Row {
  #held = el("p", { class: "held quiet small", hidden: true });

  /**
   * @param {Question} message
   * @param {Chat} chat
   * @param {Answers} answers
   */
  constructor(message, chat, answers) {
    super(message, chat, answers, texts.transcript.you, texts.transcript.you_said);
    this.message = message;
    if (message.files?.length) this.#showFiles(message.files);
    if (message.text) this.root.append(renderQuestion(message.text));
    this.root.append(this.foot);
    this.refresh();
  }

  /** Say which files are only in this browser, because they did not fit into the history. */
  showHeld() {
    const held = (this.message.files ?? []).filter(({ id }) => this.chat.history?.sender.isHeld(id));
    const names = [...new Set(held.map(({ name }) => name))].join(", ");
    this.#held.hidden = !names;
    this.#held.textContent = fill(texts.transcript.only_here, { names });
  }

  /** @param {FileRecord[]} files */
  async #showFiles(files) {
    const box = el("div", { class: "files" });
    this.root.append(box, this.#held);
    this.showHeld();
    const { storedCards } = await this.chat.load(() => import("../composer/files.js"));
    box.append(...storedCards(files));
  }

  /** Show what stands below the text. */
  refresh() {
    this.showPart("buttons", "", () =>
      buttonGroup(
        iconButton("copy", texts.transcript.copy_message, { "data-act": "copy" }),
        iconButton("pencil", texts.transcript.edit_message, { "data-act": "edit" }),
        iconButton("ellipsis", texts.transcript.more_for_message, { "data-act": "more", "aria-haspopup": "menu" }),
      ),
    );
    this.showPart("time", "", () => timeOf(this.message));
    this.refreshVersions();
  }

  /** Show which version it is; others may have come or gone. */
  refreshVersions() {
    this.showVersions(this.message);
  }
}

/** An answer: where it is, its reasoning, its text, how it ended and what it used. */
export class AnswerRow extends Row {
  #body = el("div", { class: "md" });
  #blocks = new Blocks(this.#body);
  /** Where in its text the answer itself begins, as far as it is shown. */
  #begin = 0;
  /** @type {HTMLDetailsElement | null} */
  #thoughts = null;
  /** @type {HTMLElement | null} */
  #phase = null;
  /** @type {HTMLElement | null} */
  #problem = null;
  #problemKey = "null";

  /**
   * @param {AnswerRecord} message
   * @param {Chat} chat
   * @param {Answers} answers
   */
  constructor(message, chat, answers) {
    super(message, chat, answers, texts.transcript.assistant, texts.transcript.the_answer);
    this.message = message;
    this.root.append(this.#body);
    if (message.state === "open") this.#showPhaseText(texts.transcript.sending);
    else this.paint(true);
    this.root.append(this.foot);
    this.refresh();
  }

  /** What is shown of the text. */
  get body() {
    return this.#body;
  }

  /**
   * Show the text as it is now; the last time it is `final`.
   *
   * @param {boolean} [final]
   */
  paint(final = false) {
    const { message } = this;
    const { thoughts, begin, isOpen } = partsOfAnswer(message);
    const reasoning = [message.reasoning, thoughts].filter(Boolean).join("\n\n");
    const text = message.text.slice(begin);
    if (reasoning) this.#paintThoughts(reasoning, final || (Boolean(text) && !isOpen));
    if (begin !== this.#begin && !isOpen) {
      this.#begin = begin;
      this.#body.replaceChildren();
      this.#blocks = new Blocks(this.#body); // what was taken for the answer was reasoning
    }
    if (final) this.#blocks.finish(text);
    else this.#blocks.update(text);
  }

  /**
   * @param {string} reasoning
   * @param {boolean} isOver
   */
  #paintThoughts(reasoning, isOver) {
    if (!this.#thoughts) {
      const text = el("div", { class: "thought", dir: "auto" }, document.createTextNode(""));
      this.#thoughts = el("details", { class: "thoughts" }, el("summary"), text);
      this.#body.before(this.#thoughts);
    }
    const { thinkingMs } = this.message;
    const time = thinkingMs ? seconds(thinkingMs / 1000) : "";
    const thought = time ? fill(texts.transcript.thought_for, { time }) : texts.transcript.thought;
    const summary = this.#thoughts.querySelector("summary");
    if (summary) summary.textContent = isOver ? thought : texts.transcript.reasoning;
    const shown = this.#thoughts.lastElementChild?.firstChild;
    if (!(shown instanceof Text)) return;
    if (reasoning.startsWith(shown.data)) shown.appendData(reasoning.slice(shown.length));
    else shown.data = reasoning;
  }

  /**
   * Show where the answer is and since when.
   *
   * @param {Answer} answer
   */
  showPhase(answer) {
    this.root.setAttribute("aria-busy", "true");
    this.root.dataset.phase = answer.phase.name;
    const since = (performance.now() - answer.phase.since) / 1000;
    const time = since >= 1 ? ` · ${wholeSeconds(Math.floor(since))}` : "";
    const words = `${stateWords(answer)}${time}`;
    if (this.#phase?.textContent !== words) this.#showPhaseText(words);
  }

  /** @param {string} words "" removes the line: a long conversation has no elements without content */
  #showPhaseText(words) {
    if (!words) {
      this.#phase?.remove();
      this.#phase = null;
      return;
    }
    if (!this.#phase) {
      this.#phase = el("p", { class: "state" });
      this.#body.after(this.#phase);
    }
    this.#phase.textContent = words;
  }

  /** Show what stands around the text: how it ended, usage, versions and buttons. */
  refresh() {
    const { message } = this;
    const open = message.state === "open";
    if (!open) {
      this.root.removeAttribute("aria-busy");
      delete this.root.dataset.phase;
      this.#showPhaseText("");
    }
    this.showPart("usage", open ? null : JSON.stringify(message.stats ?? {}), () => this.#usage());
    const isEnded = Boolean(this.chat.ended); // then nothing can be asked
    this.showPart("buttons", open ? null : `${isEnded} ${!message.text}`, () =>
      buttonGroup(
        ...(message.text ? [iconButton("copy", texts.transcript.copy_answer, { "data-act": "copy" })] : []),
        ...(isEnded ? [] : [iconButton("refresh-cw", texts.transcript.regenerate, { "data-act": "regenerate" })]),
        iconButton("ellipsis", texts.transcript.more_for_answer, { "data-act": "more", "aria-haspopup": "menu" }),
      ),
    );
    this.showPart("time", open ? null : "", () => timeOf(message));
    this.refreshVersions();
  }

  /** Show which version it is; others may have come or gone, and messages below it. */
  refreshVersions() {
    this.showVersions(this.message);
    this.#showProblem();
    const paired = this.answers.sideBySide(this.message).length > 1;
    this.heading.className = paired ? "pair-name" : "unseen";
    this.heading.textContent = paired ? this.chat.modelName(this.message.model) : texts.transcript.the_answer;
    this.showPart("use", paired && this.message.state !== "open" ? "" : null, () =>
      el("button", { type: "button", class: "button", "data-act": "use" }, texts.transcript.use_answer),
    );
  }

  #showProblem() {
    const problem = explain(this.message, this.answers.isLast(this.message), this.chat.ended);
    const key = JSON.stringify(problem);
    if (this.#problemKey === key) return;
    this.#problemKey = key;
    this.#problem?.remove();
    this.#problem = null;
    if (!problem) return;
    const { actions = [], tone, text } = problem;
    const role = tone === "calm" ? "note" : "alert";
    this.#problem = el(
      "div",
      { class: `problem ${tone}`, role },
      icon(problem.icon ?? "circle-alert"),
      el("p", {}, text),
    );
    for (const action of actions) {
      if (!action) continue;
      this.#problem.append(el("button", { type: "button", class: "button", "data-act": action.name }, action.label));
    }
    this.foot.before(this.#problem);
  }

  #usage() {
    const { message, chat } = this;
    const model = chat.modelName(message.model);
    if (!message.stats) return el("span", { class: "usage" }, model);
    const parts = [[model, model], ...usageWords(message.stats, chat.seesCosts)];
    const full = parts.map(([, long]) => long).join(", ");
    const inside = [
      el("span", { "aria-hidden": "true" }, parts.map(([brief]) => brief).join(" · ")),
      el("span", { class: "unseen" }, full),
    ];
    if (!chat.isOwner) return el("span", { class: "usage", title: full }, ...inside);
    const href = `/requests/${encodeURIComponent(message.job)}`;
    return el("a", { class: "usage", href, title: fill(texts.transcript.opens_record, { usage: full }) }, ...inside);
  }
}

/**
 * Return what an answer used, each figure in a short and a full form.
 *
 * @param {Stats} stats
 * @param {boolean} seesCosts
 */
function usageWords({ prompt, completion, cost, ttft, duration, speed, estimated }, seesCosts) {
  /** @param {string} figure */
  const about = (figure) => (estimated ? fill(texts.transcript.about, { figure }) : figure);
  /** @type {[string, string][]} */
  const words = [];
  if (prompt !== null) {
    const brief = fill(texts.transcript.in_brief, { count: count(prompt) });
    words.push([about(brief), about(pluralText(texts.transcript.tokens_in, prompt))]);
  }
  if (completion !== null) {
    const brief = fill(texts.transcript.out_brief, { count: count(completion) });
    words.push([brief, pluralText(texts.transcript.tokens_out, completion)]);
  }
  if (seesCosts && cost !== null) words.push([money(cost), fill(texts.transcript.cost, { amount: money(cost) })]);
  if (ttft !== null) words.push([seconds(ttft), fill(texts.transcript.first_token, { time: seconds(ttft) })]);
  if (speed && (duration ?? 0) - (ttft ?? 0) > SHORT_S) {
    const rounded = Math.round(speed);
    const brief = fill(texts.transcript.speed_brief, { count: count(rounded) });
    words.push([brief, pluralText(texts.transcript.speed, rounded)]);
  }
  return words;
}
