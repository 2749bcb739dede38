// The offer to take the conversations of this browser along into the history on the server.

import { openDialog } from "../../shell/dialog.js";
import { el, fill, language, pluralText, texts } from "../../shell/page.js";
import { endOpen, eraseMoved, sendLeft } from "../sidebar/leftovers.js";
import { problemWords } from "../state/problems.js";
import { Database, GUESTS, queueId } from "../state/store.js";
import { NotSent, send } from "../transfer/moving.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { Remote } from "./remote.js" */

/**
 * The setting of the person, on the server, with the ids of the conversations that they have left in browsers: a
 * mark in the browser would stay there after they have signed out.
 */
const LEFT = "left-in-browsers";
const MAX_LEFT = 300;
/** The mark of earlier releases in the browser: who has answered the offer, and when. */
const ANSWERED = "offered";

/** @typedef {{ from: Database, record: ConversationRecord }} Movable */

/** The conversations of this browser that can be moved. */
export class Offer {
  #chat;
  #history;
  #guests = new Database(GUESTS);
  /** @type {Movable[]} */
  #movable = [];

  /**
   * @param {Chat} chat
   * @param {Remote} history
   */
  constructor(chat, history) {
    this.#chat = chat;
    this.#history = history;
  }

  /** Look for conversations, and return how many there are. */
  async look() {
    this.#movable = [];
    await sendLeft(this.#history);
    for (const from of [this.#guests, this.#history.database]) {
      const records = await from.all("conversations");
      for (const record of records) if (!record.deleted) this.#movable.push({ from, record });
    }
    this.#movable.sort((a, b) => b.record.updated - a.record.updated);
    return this.#movable.length;
  }

  /** True if there is something that this person was not asked about yet. */
  async isNew() {
    const answered = (await this.#guests.find("settings", ANSWERED))?.value?.[this.#history.name] ?? 0;
    const left = await this.#left();
    return this.#movable.some(({ record }) => record.updated > answered && !left.includes(record.id));
  }

  /** @returns {Promise<string[]>} */
  async #left() {
    return (await this.#history.find("settings", LEFT))?.value ?? [];
  }

  async #noteAnswer() {
    const left = new Set([...(await this.#left()), ...this.#movable.map(({ record }) => record.id)]);
    await this.#history.putAll({ settings: [{ id: LEFT, value: [...left].slice(-MAX_LEFT) }] });
    await this.#guests.remove("settings", [ANSWERED]);
  }

  /** Show the offer. Returns the ids of the conversations that were moved. */
  async ask() {
    /** @type {string[]} */
    const moved = [];
    const dialog = el("dialog", { class: "offer", "aria-labelledby": "offer-title" });
    const closed = new Promise((resolve) => dialog.addEventListener("close", resolve));
    dialog.append(...this.#question(dialog, moved));
    openDialog(dialog);
    await closed;
    await this.#noteAnswer();
    if (moved.length) {
      this.#history.connection.pollNow();
      for (const id of moved) this.#history.view.stored.add(id);
      await sendLeft(this.#history); // what other tabs have written meanwhile
    }
    return moved;
  }

  /**
   * @param {HTMLDialogElement} dialog
   * @param {string[]} moved
   */
  #question(dialog, moved) {
    const count = this.#movable.length;
    /** @type {HTMLInputElement[]} */
    const boxes = [];
    const items = this.#movable.map(({ record }) => {
      const box = el("input", { type: "checkbox", checked: true, value: record.id });
      boxes.push(box);
      const day = new Date(record.updated).toLocaleDateString(language);
      return el(
        "li",
        {},
        el(
          "label",
          {},
          box,
          el("span", { class: "clip" }, record.title || texts.sidebar.new_chat),
          el("span", { class: "quiet" }, day),
        ),
      );
    });
    const list = el("ul", { class: "offered", "aria-label": texts.history.in_this_browser, hidden: true }, ...items);
    const state = el("p", { role: "status" });
    const all = el(
      "button",
      { type: "button", class: "button primary" },
      count === 1 ? texts.history.move_it : texts.history.move_all,
    );
    const choose = el("button", { type: "button", class: "button", hidden: count === 1 }, texts.history.choose);
    const leave = el(
      "button",
      { type: "button", class: "button", onclick: () => dialog.close() },
      texts.history.leave_here,
    );
    const label = () => {
      const chosen = boxes.filter((box) => box.checked).length;
      all.textContent = chosen === count ? texts.history.move_all : pluralText(texts.history.move_some, chosen);
      all.disabled = chosen === 0;
    };
    list.addEventListener("change", label);
    choose.addEventListener("click", () => {
      list.hidden = false;
      choose.hidden = true;
      boxes[0]?.focus();
    });
    all.addEventListener("click", async () => {
      const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      const left = this.#movable.filter(({ record }) => chosen.has(record.id) && !moved.includes(record.id));
      for (const control of [all, choose, leave, ...boxes]) control.disabled = true;
      const problem = await this.#move(left, moved, state);
      if (!problem) {
        dialog.close();
        return;
      }
      state.textContent = problem;
      all.textContent = texts.history.try_again;
      for (const control of [all, leave]) control.disabled = false;
      all.focus();
    });
    return [
      el("h2", { id: "offer-title" }, texts.history.move_question),
      el("p", {}, pluralText(texts.history.about_moving, count)),
      count > 1 ? el("p", { class: "quiet small" }, texts.history.choose_yours) : "",
      list,
      state,
      el("p", { class: "buttons" }, leave, choose, all),
    ];
  }

  /**
   * Move conversations one by one: each is removed here once the server has it. Returns what went wrong, in words.
   *
   * @param {Movable[]} chosen
   * @param {string[]} moved
   * @param {HTMLElement} state
   */
  async #move(chosen, moved, state) {
    for (const [at, one] of chosen.entries()) {
      state.textContent = fill(texts.history.moving, { place: at + 1, count: chosen.length });
      try {
        await this.#moveOne(one);
        moved.push(one.record.id);
      } catch (error) {
        const why = problemWords(error);
        if (error instanceof NotSent) return pluralText(texts.history.not_moved, chosen.length - at, { why });
        return fill(texts.history.one_not_moved, { title: one.record.title || texts.sidebar.new_chat, why });
      }
    }
    if (chosen.length === this.#movable.length) {
      const { takePrompts } = await this.#chat.load(() => import("../prompts/prompt_store.js"));
      await takePrompts(this.#guests);
      await this.#moveNew();
    }
    return "";
  }

  /** @param {Movable} movable */
  async #moveOne({ from, record }) {
    const { id } = record;
    const [messages, files] = await Promise.all([from.within("messages", id), from.within("files", id)]);
    await send({ conversation: record, messages: messages.map(endOpen), files }, this.#history);
    const queue = await from.find("settings", queueId(id));
    const isHere = from === this.#history.database;
    if (queue && !isHere) await this.#history.database.putAll({ settings: [queue] });
    if (from === this.#guests && (await from.isPersistent())) {
      await eraseMoved({ record, messages, files });
      await from.remove("settings", [queueId(id)]);
    } else await from.erase(id);
    if (queue && isHere) await from.putAll({ settings: [queue] });
  }

  /** Take along what is typed in a new chat. */
  async #moveNew() {
    const kept = await this.#guests.find("settings", "new");
    const draft = kept?.value?.draft;
    const chat = this.#chat;
    if (!draft || chat.current?.started || chat.current?.record.draft) return;
    const files = await this.#guests.within("files", kept.value.id);
    await this.#history.putAll({ settings: [{ id: "new", value: kept.value }], files });
    await this.#guests.putAll({ settings: [{ id: "new", value: null }] });
    await this.#guests.remove(
      "files",
      files.map(({ id }) => id),
    );
    await chat.open(null, { push: false });
  }
}
