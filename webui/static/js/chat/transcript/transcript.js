// The turns of the open conversation. Rows are plain DOM: while an answer streams only its open end is
// painted, at most once per frame, and nothing above it is touched.

import { copyFrom } from "../../shell/clipboard.js";
import { announce, closest, isComposing, part, texts } from "../../shell/page.js";
import { copyAnswer, listenToCopy } from "../markdown/copying.js";
import { answerText, partsOfAnswer } from "../turns/thoughts.js";
import { Follower } from "./follower.js";
import { newPair } from "./pair.js";
import { AnswerRow, QuestionRow } from "./row.js";
import { endWords, phaseWords } from "./words.js";

/** @import { Answer } from "../state/answer.js" */
/** @import { Answers } from "../state/answers.js" */
/** @import { Chat } from "../state/chat.js" */
/** @import { Message } from "../state/types.js" */

const TICK_MS = 1000;
/** Between two paintings of new text: faster is not readable, and the page stays responsive. */
const PAINT_MS = 50;
const touch = matchMedia("(pointer: coarse)");

/** Shows the messages of a chat, and handles the buttons of their rows. */
export class Transcript {
  #chat;
  #answers;
  #perform;
  #root = part("#transcript", HTMLElement);
  #follower;
  /** @type {Map<string, QuestionRow | AnswerRow>} by the id of the message */
  #rows = new Map();
  /** @type {Set<AnswerRow>} rows with text that is not painted yet */
  #dirty = new Set();
  /** @type {Map<AnswerRow, number>} timers that show how long a phase lasts */
  #timers = new Map();
  #paintPlanned = false;
  #painted = 0;

  /**
   * @param {Chat} chat
   * @param {Answers} answers
   * @param {(name: string) => void} perform performs the action of a name (see Action)
   */
  constructor(chat, answers, perform) {
    this.#chat = chat;
    this.#answers = answers;
    this.#perform = perform;
    this.#follower = new Follower(part("#scroller", HTMLElement), this.#root, part("#jump", HTMLElement));
    this.#root.addEventListener("click", (event) => this.#clicked(event));
    listenToCopy(this.#root);
    chat.on("messages", (path) => this.#show(path));
    chat.on("opened", () => chat.current?.started && this.#follower.toEnd());
    chat.on("asked", (message) => this.#asked(message));
    chat.on("phase", (answer) => this.#phaseChanged(answer));
    chat.on("text", (answer) => this.#textAdded(answer));
    chat.on("stats", (answer) => this.#rows.get(answer.message.id)?.refresh());
    chat.on("held", () => {
      for (const row of this.#rows.values()) if (row instanceof QuestionRow) row.showHeld();
    });
    chat.on("end", (answer) => this.#ended(answer));
    let isEnded = false; // the session: it may begin again
    chat.on("visitor", () => {
      if (isEnded === Boolean(chat.ended)) return;
      isEnded = !isEnded;
      for (const row of this.#rows.values()) if (row instanceof AnswerRow) row.refresh();
    });
  }

  /**
   * Show an answer that was asked for: beside another one from where both begin, else at the end.
   *
   * @param {Message} message
   */
  #asked(message) {
    const pair = this.#rows.get(message.id)?.root.closest(".pair");
    if (pair instanceof HTMLElement) this.#follower.showStart(pair);
    else this.#follower.toEnd();
  }

  /** Edit the last question in its row. Returns false where there is none, or an answer is under way. */
  editLast() {
    const row = this.#shownRows().findLast((one) => one instanceof QuestionRow);
    if (!(row instanceof QuestionRow) || this.#chat.running) return false;
    this.#edit(row);
    return true;
  }

  /** Copy the last answer, as its button does. */
  copyLast() {
    const buttons = this.#root.querySelectorAll('.assistant [data-act="copy"]');
    const button = [...buttons].at(-1);
    if (button instanceof HTMLElement) button.click();
  }

  /** Return the rows in their order on the page. */
  #shownRows() {
    return [...this.#root.querySelectorAll("article")].flatMap(
      (root) => this.#rows.get(root.getAttribute("data-id") ?? "") ?? [],
    );
  }

  /**
   * Show these messages; rows that are there already stay.
   *
   * @param {Message[]} path
   */
  #show(path) {
    const hadFocus = this.#root.contains(document.activeElement);
    const groups = path.map((message) => this.#answers.sideBySide(message));
    const wanted = new Set(groups.flat().map((message) => message.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.root.remove();
      this.#rows.delete(id);
      if (row instanceof AnswerRow) this.#dirty.delete(row);
    }
    /** @type {HTMLElement | null} */
    let before = null;
    for (const group of groups) {
      const rows = group.map((message) => this.#shownRow(message) ?? this.#newRow(message));
      before = this.#place(group.length > 1 ? this.#pairOf(rows) : rows[0].root, before);
    }
    for (const pair of this.#root.querySelectorAll(".pair")) if (!pair.querySelector("article")) pair.remove();
    // The button or field that was used may have left with its row: whoever has no mouse goes on in the box.
    if (hadFocus && !this.#root.contains(document.activeElement) && !touch.matches)
      part("#message", HTMLElement).focus({ preventScroll: true });
    for (const message of groups.flat()) {
      const answer = this.#answers.of(message);
      if (!answer) continue;
      this.#showPhase(answer);
      this.#textAdded(answer);
    }
  }

  /** @param {Message} message */
  #shownRow(message) {
    const row = this.#rows.get(message.id);
    if (row?.message !== message) {
      row?.root.remove(); // another tab has changed the message
      return null;
    }
    row.refreshVersions();
    return row;
  }

  /**
   * Put an element behind another one, where it is not there already: moving it would lose the focus.
   *
   * @param {HTMLElement} root
   * @param {HTMLElement | null} before
   */
  #place(root, before) {
    if (before && before.nextElementSibling !== root) before.after(root);
    else if (!before && this.#root.firstElementChild !== root) this.#root.prepend(root);
    return root;
  }

  /**
   * Return the element that shows two answers side by side.
   *
   * @param {(QuestionRow | AnswerRow)[]} rows
   */
  #pairOf(rows) {
    const shown = rows[1].root.closest(".pair");
    if (shown instanceof HTMLElement && shown === rows[0].root.parentElement) return shown;
    const models = rows.map(({ message }) => (message.role === "assistant" ? message.model : ""));
    const pair = newPair(models.map((model) => this.#chat.modelName(model)));
    pair.append(...rows.map((row) => row.root));
    return pair;
  }

  /** @param {Message} message */
  #newRow(message) {
    const chat = this.#chat;
    const answers = this.#answers;
    const row =
      message.role === "user" ? new QuestionRow(message, chat, answers) : new AnswerRow(message, chat, answers);
    this.#rows.set(message.id, row);
    return row;
  }

  /** @param {Answer} answer */
  #answerRow(answer) {
    const row = this.#rows.get(answer.message.id);
    return row instanceof AnswerRow ? row : null;
  }

  /** @param {Answer} answer */
  #phaseChanged(answer) {
    this.#showPhase(answer);
    if (answer.message.conversation !== this.#chat.current?.id) return;
    announce(answer.phase.name === "writing" ? texts.transcript.generating : phaseWords(answer));
  }

  /** @param {Answer} answer */
  #showPhase(answer) {
    const row = this.#answerRow(answer);
    if (!row) return;
    row.showPhase(answer);
    if (!this.#timers.has(row))
      this.#timers.set(
        row,
        setInterval(() => row.showPhase(answer), TICK_MS),
      );
  }

  /** @param {Answer} answer */
  #textAdded(answer) {
    const row = this.#answerRow(answer);
    if (!row) return;
    this.#dirty.add(row);
    if (this.#paintPlanned) return;
    this.#paintPlanned = true;
    const early = this.#painted + PAINT_MS - performance.now();
    if (early > 0) setTimeout(() => requestAnimationFrame(() => this.#paint()), early);
    else requestAnimationFrame(() => this.#paint());
  }

  /** Paint new text; the follower then keeps the end in view. */
  #paint() {
    this.#paintPlanned = false;
    this.#painted = performance.now();
    for (const row of this.#dirty) row.paint();
    this.#dirty.clear();
  }

  /** @param {Answer} answer */
  #ended(answer) {
    for (const [row, timer] of this.#timers) {
      if (row.message !== answer.message) continue;
      clearInterval(timer);
      this.#timers.delete(row);
    }
    const row = this.#answerRow(answer);
    if (row) {
      this.#dirty.delete(row);
      row.paint(true);
      row.refresh();
    }
    if (answer.message.conversation === this.#chat.current?.id) announce(endWords(answer.message));
  }

  /** @param {Event} event */
  #clicked(event) {
    const button = closest(event, "button");
    const act = button?.dataset.act;
    const row = this.#rows.get(button?.closest("article")?.dataset.id ?? "");
    if (!button || !act || !row) return;
    const run = this.#actsOf(row, button)[act];
    if (run) run();
    else this.#perform(act);
  }

  /**
   * Return what the buttons of a row do, by their `data-act`. What is not here is an action of the page.
   *
   * @param {QuestionRow | AnswerRow} row
   * @param {HTMLElement} button
   * @returns {Record<string, (() => void) | undefined>}
   */
  #actsOf(row, button) {
    const acts = {
      previous: () => this.#showVersion(row.message, -1),
      next: () => this.#showVersion(row.message, 1),
      more: () => this.#more(button, row),
    };
    if (row instanceof QuestionRow)
      return { ...acts, copy: () => copyFrom(button, row.message.text), edit: () => this.#edit(row) };
    const { message } = row;
    const regenerate = () => this.#answers.regenerate(message);
    return {
      ...acts,
      copy: () => copyAnswer(button, answerText(message), row.body),
      use: () => this.#answers.use(message),
      continue: () => this.#answers.continueAnswer(message),
      regenerate,
      again: regenerate,
    };
  }

  /**
   * Show another version; the focus stays on the buttons.
   *
   * @param {Message} message
   * @param {-1 | 1} step
   */
  #showVersion(message, step) {
    const top = this.#rows.get(message.id)?.root.getBoundingClientRect().top;
    const chosen = this.#answers.showVersion(message, step);
    const root = chosen && this.#rows.get(chosen.id)?.root;
    if (!root || top === undefined) return;
    this.#follower.keep(root, top);
    const same = root.querySelector(`[data-act="${step === 1 ? "next" : "previous"}"]:enabled`);
    const button = same ?? root.querySelector(".versions button:enabled");
    if (button instanceof HTMLElement) button.focus({ preventScroll: true });
  }

  /**
   * @param {HTMLElement} button
   * @param {QuestionRow | AnswerRow} row
   */
  async #more(button, row) {
    const { showTurnMenu } = await this.#chat.load(() => import("../turns/turn_menu.js"));
    const edit = row instanceof AnswerRow ? () => this.#editAnswer(row) : null;
    showTurnMenu(button, row.message, this.#chat, this.#answers, edit);
  }

  /** @param {AnswerRow} row */
  async #editAnswer(row) {
    const chat = this.#chat;
    const { current } = chat;
    if (!current || !this.#answers.isFree()) return;
    const typed = holdKeys();
    const { editInPlace } = await chat.load(() => import("./edit.js")).finally(typed.release);
    const send = async (/** @type {string} */ text) => {
      const reasoning = row.message.text.slice(0, partsOfAnswer(row.message).begin);
      Object.assign(row.message, { text: reasoning + text, edited: true });
      await chat.save(current, row.message);
      row.root.remove();
      this.#rows.delete(row.id);
      if (current === chat.current) chat.showMessages();
    };
    editInPlace(row, { label: texts.transcript.save, isDocument: true, send });
    typed.insert();
  }

  /** @param {QuestionRow} row */
  async #edit(row) {
    if (!this.#answers.canAsk()) return;
    const typed = holdKeys();
    const { editInPlace, keepEdit } = await this.#chat.load(() => import("./edit.js")).finally(typed.release);
    const { message } = row;
    const send = (/** @type {string} */ text) =>
      this.#answers.askEdited(message, text, () => {
        keepEdit(row, text);
        const again = this.#rows.get(message.id);
        if (again instanceof QuestionRow) this.#edit(again);
      });
    editInPlace(row, { label: texts.transcript.send, send });
    typed.insert();
  }
}

/** Keep letters that are typed before there is a box for them, which is on its way. */
function holdKeys() {
  let letters = "";
  /** @param {KeyboardEvent} event */
  const hold = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isComposing(event) || event.key === "Tab") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.key === "Backspace") letters = letters.slice(0, -1);
    else if ([...event.key].length === 1) letters += event.key;
  };
  addEventListener("keydown", hold, { capture: true });
  return {
    release: () => removeEventListener("keydown", hold, { capture: true }),
    insert: () => {
      const box = document.activeElement;
      if (!letters || !(box instanceof HTMLTextAreaElement)) return;
      box.setRangeText(letters, box.selectionStart, box.selectionEnd, "end");
      box.dispatchEvent(new Event("input", { bubbles: true }));
    },
  };
}
