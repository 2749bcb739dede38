// The answers under way: asking for them, attaching to them, and what follows their end.

import { ApiError, call, callJson } from "../../shell/api.js";
import { fill, REACHABLE_EVENT, texts } from "../../shell/page.js";
import { limitedModel } from "../limits.js";
import { continuePrompt } from "../turns/joint.js";
import { answerText } from "../turns/thoughts.js";
import { Answer, actionFor, alsoFor, newAnswer, plainError } from "./answer.js";
import { storedFiles } from "./conversation.js";
import { newId } from "./records.js";
import { buildRequest } from "./request.js";

/** @import { Chat } from "./chat.js" */
/** @import { Conversation } from "./conversation.js" */
/** @import { Turn } from "./request.js" */
/** @import { AnswerRecord, ConversationRecord, Draft, FileRecord, Message, Question } from "./types.js" */

/**
 * Show two answers to a question side by side; null: one at a time.
 *
 * @param {ConversationRecord} record
 * @param {string | null | undefined} question
 * @param {string[] | null} pair
 */
function setPair(record, question, pair) {
  if (!question || (!pair && !record.pairs?.[question])) return;
  const { [question]: _before, ...others } = record.pairs ?? {};
  record.pairs = pair ? { ...others, [question]: pair } : others;
}

/**
 * @param {ConversationRecord} record
 * @param {string | null} question
 * @param {string} old
 * @param {string} id
 */
function replaceInPair(record, question, old, id) {
  const pair = record.pairs?.[question ?? ""];
  if (pair?.includes(old))
    setPair(
      record,
      question,
      pair.map((one) => (one === old ? id : one)),
    );
}

/** Asks for answers in the conversations of a chat. Also the listener of each Answer. */
export class Answers {
  #chat;
  #askedToPersist = false;
  /** @type {Map<string, Answer>} by the id of the message */
  #running = new Map();
  /** @type {Map<string, Conversation>} those with an answer under way, by their ids */
  #conversations = new Map();

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
    // Somebody who signs in now cannot ask the gateway for a guest's answer any more: what was read stays.
    addEventListener("pagehide", () => {
      if (!chat.history) for (const answer of this.#running.values()) answer.save();
    });
  }

  /** The ids of the messages that are being written. */
  get ids() {
    return new Set(this.#running.keys());
  }

  /** The ids of the conversations with an answer under way. */
  get answering() {
    return new Set([...this.#running.values()].map((answer) => answer.message.conversation));
  }

  /** The conversations that answers are, or were last, written in. */
  get conversations() {
    return [...this.#conversations.values()];
  }

  /**
   * Return the answer that writes a message.
   *
   * @param {Message} message
   */
  of(message) {
    return this.#running.get(message.id);
  }

  /**
   * Return the answers of a conversation.
   *
   * @param {string} id
   */
  in(id) {
    return [...this.#running.values()].filter((answer) => answer.message.conversation === id);
  }

  /**
   * Attach to an answer that was asked for by an earlier page or another tab.
   *
   * @param {AnswerRecord} message
   * @param {Conversation} conversation
   */
  attach(message, conversation) {
    const answer = this.#add(message, conversation);
    answer.attach();
  }

  /**
   * @param {AnswerRecord} message
   * @param {Conversation} conversation
   */
  #add(message, conversation) {
    const answer = new Answer(message, this);
    this.#running.set(message.id, answer);
    this.#conversations.set(message.conversation, conversation);
    return answer;
  }

  /**
   * Ask a question below `parent`; when the gateway refuses, remove it and return what was typed. `draft`
   * is the draft that it was sent from: it is cleared, unless it has changed, once the gateway has accepted.
   *
   * @param {Conversation} conversation
   * @param {{ text: string, files: FileRecord[], parent: Message | undefined, takeBack?: () => void }} question
   *   `takeBack` takes the text instead of the box, if the conversation is still open
   * @param {Draft | null} [draft]
   */
  async ask(conversation, { text, files, parent, takeBack }, draft) {
    const chat = this.#chat;
    conversation.asking = true;
    const { pairs } = conversation.record;
    setPair(conversation.record, parent?.parent, null); // it goes on with the one that was shown last
    const isNew = !conversation.started;
    const question = conversation.addQuestion(text, files, parent);
    if (isNew) chat.addressChanged(conversation);
    const error = await this.#request(conversation, question);
    conversation.asking = false;
    if (!error) {
      if (draft !== undefined && conversation.boxed === draft) this.#clearDraft(conversation);
      this.#askToPersist();
      return;
    }
    if (pairs) conversation.record.pairs = pairs;
    await conversation.remove(question);
    chat.notifyTabs(conversation.id);
    if (isNew) chat.emit("removed", conversation.record);
    if (conversation !== chat.current) {
      if (isNew) return;
      await conversation.enqueue(text, files, true); // offered when it is opened again
      chat.notifyTabs(conversation.id);
      if (conversation === chat.current) chat.statusChanged(); // it was opened meanwhile
      return;
    }
    if (isNew) chat.addressChanged(conversation);
    if (!takeBack) chat.emit("returned", { text, files });
    chat.showMessages();
    takeBack?.();
    this.#reportRefusal(error, conversation.record.model);
  }

  /**
   * Delete the draft, and show what others have added to it.
   *
   * @param {Conversation} conversation
   */
  #clearDraft(conversation) {
    const chat = this.#chat;
    chat.keep(conversation.clearDraft());
    const { draft } = conversation.record;
    if (draft && conversation === chat.current) chat.emit("draft", draft);
  }

  /** Ask the browser, once there is something to lose, not to delete conversations that are nowhere else. */
  #askToPersist() {
    if (this.#chat.history || this.#askedToPersist) return;
    this.#askedToPersist = true;
    navigator.storage?.persist?.().catch(() => {});
  }

  /**
   * Ask for an answer to a question. Returns the error when the gateway refuses.
   *
   * @param {Conversation} conversation
   * @param {Question} question
   * @param {{ model?: string, first?: AnswerRecord, beside?: AnswerRecord }} [how] the model, where it is not the
   *   conversation's; the answer that is to be continued, or that it is shown beside
   * @returns {Promise<ApiError | null>}
   */
  async #request(conversation, question, { model: other, first, beside } = {}) {
    const chat = this.#chat;
    const { record, tree } = conversation;
    const asked = other ?? record.model;
    const message = newAnswer(newId("m_"), newId("chat-"), question.id, conversation.id, asked);
    /** @type {Turn[]} */
    const turns = tree.before(question);
    if (first) {
      const { id, text, reasoning, stats } = first;
      Object.assign(message, { text, reasoning, continues: { id, letters: text.length, stats } });
      turns.push(first, { role: "user", text: continuePrompt(answerText(first)) });
    }
    const { pairs } = record;
    if (first && pairs?.[question.id]?.includes(first.id)) replaceInPair(record, question.id, first.id, message.id);
    else setPair(record, question.id, beside ? [beside.id, message.id] : null);
    tree.add(message, true);
    const answer = this.#add(message, conversation);
    if (conversation === chat.current) {
      chat.showMessages();
      chat.emit("asked", message);
    }
    await chat.save(conversation, question, message);
    try {
      const model = chat.models.get(message.model);
      if (!model)
        throw new ApiError(404, {
          message: fill(texts.composer.not_here, { model: message.model }),
          code: "model_not_found",
        });
      await answer.ask(await buildRequest(record, turns, model, chat.instructions));
    } catch (error) {
      if (message.state !== "open") return null; // it was stopped before the gateway accepted it
      const refusal = error instanceof ApiError ? error : new ApiError(0, { message: String(error) });
      this.#running.delete(message.id);
      if (refusal.code === "unreachable") call(`jobs/${message.job}`, { method: "DELETE" }).catch(() => {});
      if (pairs) record.pairs = pairs;
      else setPair(record, question.id, null);
      await conversation.remove(message);
      chat.notifyTabs(conversation.id);
      if (conversation === chat.current) chat.showMessages();
      return refusal;
    }
    this.updateVisitor();
    await chat.save(conversation, message); // other tabs can attach to it from here on
    return null;
  }

  /**
   * @param {ApiError} error
   * @param {string} model that was asked
   */
  #reportRefusal(error, model) {
    if (this.#chat.ended) return; // the box says it
    const { message, retryAfter, code } = plainError(error);
    this.#chat.report({
      text: message,
      wait: retryAfter,
      model: limitedModel(message, model),
      away: code === "unreachable",
      until: code === "unreachable" ? REACHABLE_EVENT : null,
      action: retryAfter ? null : actionFor({ code }),
      also: alsoFor({ code }),
    });
    this.updateVisitor();
  }

  /**
   * Ask the next message of the queue, unless another tab does.
   *
   * @param {Conversation} conversation
   * @param {AnswerRecord} message the answer that has ended
   */
  async askNext(conversation, message) {
    const next = await conversation.takeNext(message);
    if (next) await this.ask(conversation, { ...next, parent: conversation.path.at(-1) });
    else if (conversation === this.#chat.current) this.#chat.statusChanged();
  }

  /** True if another version can be asked for now. Reports what prevents it. */
  canAsk() {
    if (this.#mustWait()) return false;
    if (!this.#chat.model) this.#chat.emit("modelNeeded", null);
    return Boolean(this.#chat.model);
  }

  #mustWait() {
    if (!this.#chat.running) return false;
    this.#chat.report({ text: texts.answers.wait });
    return true;
  }

  /**
   * Return a message of the open conversation with its other versions, oldest first.
   *
   * @param {Message} message
   */
  versions(message) {
    return this.#chat.current?.tree.siblings(message) ?? [];
  }

  /**
   * Show the version before (-1) or after (1) a message. Returns it, or undefined while that has to wait.
   *
   * @param {Message} message
   * @param {-1 | 1} step
   */
  showVersion(message, step) {
    const conversation = this.#chat.current;
    const versions = this.versions(message);
    const chosen = versions[versions.indexOf(message) + step];
    if (!conversation || !chosen || this.#mustWait()) return undefined;
    conversation.tree.choose(chosen);
    this.#chat.showMessages();
    this.#chat.keep(conversation.saveRecord());
    return chosen;
  }

  /** True if no answer is under way in the open conversation; reports that it has to wait otherwise. */
  isFree() {
    return !this.#mustWait();
  }

  /**
   * True if nothing follows a message in the open conversation, on no branch.
   *
   * @param {Message} message
   */
  isLast(message) {
    return !this.#chat.current?.tree.children.get(message.id)?.length;
  }

  /**
   * Ask for the rest of an answer in the open conversation. What comes replaces it, with its text in front.
   *
   * @param {AnswerRecord} message
   */
  async continueAnswer(message) {
    const conversation = this.#chat.current;
    const question = conversation?.tree.messages.get(message.parent ?? "");
    if (!conversation || question?.role !== "user" || !this.canAsk()) return;
    const model = this.#chat.models.has(message.model) ? message.model : undefined;
    const error = await this.#request(conversation, question, { model, first: message });
    if (error) this.#reportRefusal(error, model ?? conversation.record.model);
  }

  /**
   * Ask another model too, and show both answers side by side.
   *
   * @param {AnswerRecord} message
   * @param {string} model
   */
  async compare(message, model) {
    const conversation = this.#chat.current;
    const question = conversation?.tree.messages.get(message.parent ?? "");
    if (!conversation || question?.role !== "user" || !this.isFree()) return;
    const error = await this.#request(conversation, question, { model, beside: message });
    if (error) this.#reportRefusal(error, model);
  }

  /**
   * Return a message of the open conversation with the one it is shown beside, or alone.
   *
   * @param {Message} message
   */
  sideBySide(message) {
    const { current } = this.#chat;
    const pair = current?.record.pairs?.[message.parent ?? ""] ?? [];
    const found = pair.flatMap((id) => current?.tree.messages.get(id) ?? []);
    return found.length === 2 && found.includes(message) ? found : [message];
  }

  /**
   * Go on with one of two answers that are shown side by side.
   *
   * @param {AnswerRecord} message
   */
  use(message) {
    const conversation = this.#chat.current;
    if (!conversation || this.#mustWait()) return;
    setPair(conversation.record, message.parent, null);
    conversation.tree.choose(message);
    this.#chat.showMessages();
    this.#chat.keep(conversation.saveRecord());
  }

  /**
   * Ask a question of the open conversation again, one whose answers were deleted, say.
   *
   * @param {Question} question
   */
  async askAgain(question) {
    const conversation = this.#chat.current;
    if (!conversation || !this.canAsk()) return;
    const error = await this.#request(conversation, question);
    if (error) this.#reportRefusal(error, conversation.record.model);
  }

  /**
   * Keep only one of an answer and the one that continues it: the longer one.
   *
   * @param {Conversation} conversation
   * @param {AnswerRecord} message
   */
  async #replaceFirst(conversation, message) {
    const chat = this.#chat;
    const first = conversation.tree.messages.get(message.continues?.id ?? "");
    const grown = message.text.length > (message.continues?.letters ?? 0);
    if (!first) return;
    if (!grown) replaceInPair(conversation.record, message.parent, message.id, first.id);
    await conversation.remove(grown ? first : message);
    if (conversation !== chat.current) return;
    chat.showMessages();
    if (!grown && message.state !== "stopped") {
      chat.report({ text: message.error?.message ?? texts.answers.nothing_added });
    }
  }

  /**
   * Ask for another version of an answer in the open conversation.
   *
   * @param {AnswerRecord} message
   * @param {string} [model] another one than the conversation's
   */
  async regenerate(message, model) {
    const conversation = this.#chat.current;
    const question = conversation?.tree.messages.get(message.parent ?? "");
    if (!conversation || question?.role !== "user" || !(model ? this.isFree() : this.canAsk())) return;
    const error = await this.#request(conversation, question, { model });
    if (error) this.#reportRefusal(error, model ?? conversation.record.model);
    else if (!message.text && message.state !== "done") {
      await conversation.remove(message); // the earlier version has no text
      if (conversation === this.#chat.current) this.#chat.showMessages();
    }
  }

  /**
   * Ask an edited question in the open conversation: it begins another branch.
   *
   * @param {Question} message
   * @param {string} text
   * @param {() => void} takeBack called when the gateway refuses it
   */
  async askEdited(message, text, takeBack) {
    const conversation = this.#chat.current;
    if (!conversation) return;
    const parent = conversation.tree.messages.get(message.parent ?? "");
    await this.ask(conversation, { text, files: await storedFiles(message.files), parent, takeBack });
  }

  /** Fetch what is left of the visitor's limits. */
  async updateVisitor() {
    try {
      this.#chat.setLimits(await callJson("key"));
    } catch {
      // The figures stay as they were; the next answer asks again.
    }
  }

  // AnswerListener

  /** @param {Answer} answer */
  phase(answer) {
    this.#chat.emit("phase", answer);
  }

  /** @param {Answer} answer */
  text(answer) {
    this.#chat.emit("text", answer);
  }

  /** @param {Answer} answer */
  stats(answer) {
    this.#chat.emit("stats", answer);
    this.updateVisitor();
  }

  /** @param {Answer} answer */
  saved({ message }) {
    this.#chat.notifyTabs(message.conversation);
  }

  /** @param {unknown} error */
  saveFailed(error) {
    this.#chat.keep(Promise.reject(error));
  }

  /** @param {Answer} answer */
  end(answer) {
    const chat = this.#chat;
    const { message } = answer;
    const conversation = this.#conversations.get(message.conversation);
    this.#running.delete(message.id);
    this.#conversations.delete(message.conversation);
    chat.emit("end", answer);
    chat.statusChanged();
    if (!conversation) return;
    chat.emit("record", conversation.record);
    if (message.continues) chat.keep(this.#replaceFirst(conversation, message));
    if (message.state === "done" && conversation.queue.length) this.askNext(conversation, message);
  }
}
