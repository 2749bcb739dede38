// The state of the chat page: the open conversation, the answers under way, the models and the visitor.
// It knows no DOM: views call its methods and listen to its events.

import { loadModule, texts } from "../../shell/page.js";
import { Conversation, storedFiles } from "./conversation.js";
import { change, find, NoRoom, put } from "./store.js";

/** @import { Remote } from "../history/remote.js" */
/** @import { Answers } from "./answers.js" */
/** @import { Elsewhere } from "./elsewhere.js" */
/**
 * @import {
 *   Action, Boot, ChatEvents, ConversationRecord, EnterKey, FileRecord, Message,
 *   Passage, Problem, QueuedMessage, Visitor,
 * } from "./types.js"
 */

const LAST_MODEL = "roxy-model";

/**
 * How a conversation is opened: whether to add to the browser's history, and which passage to show.
 * `temporary`: it is a new temporary one, and this gets its id.
 *
 * @typedef {object} OpenOptions
 * @property {boolean} [push]
 * @property {boolean} [keepFocus]
 * @property {Passage | null} [passage]
 * @property {(id: string) => void} [temporary]
 * @property {string} [instead] of which conversation a new one is opened: the session has ended
 */

/** The state, and the actions on it. */
export class Chat {
  /** @type {{ [E in keyof ChatEvents]?: ((value: ChatEvents[E]) => void)[] }} */
  #listeners = {};
  /** @type {Conversation | null} */
  #current = null;
  #opening = Symbol("open");
  /** @type {Answers | null} */
  #answers = null;
  #tabs;
  /** The history on the server; null while conversations are in this browser. @type {Remote | null} */
  history = null;
  /** What other tabs and devices do; null until it is loaded. @type {Elsewhere | null} */
  elsewhere = null;
  /** True if another tab has changed something before that. */
  missedChange = false;
  /** Done once conversations can be read and written. @type {Promise<void>} */
  joining = Promise.resolve();
  #importTranscript;

  /**
   * @param {Boot} boot
   * @param {() => Promise<(answers: Answers) => void>} importTranscript imports what shows messages, and returns the
   *   function that builds it; called before there are any
   */
  constructor(boot, importTranscript) {
    this.models = new Map(boot.models.map((model) => [model.id, model]));
    this.visitor = boot.visitor;
    this.maxFileBytes = boot.max_file_bytes;
    this.maxBodyBytes = boot.max_body_bytes;
    /** @type {EnterKey} */
    this.enterKey = "auto";
    /** Why nothing can be sent from this page any more. @type {{ text: string, action: Action } | null} */
    this.ended = null;
    /** Sent with every message of every chat. */
    this.instructions = "";
    this.place = boot.history;
    this.#importTranscript = importTranscript;
    this.#tabs = new BroadcastChannel(`roxy ${boot.history.person}`);
    this.#tabs.onmessage = (event) => {
      if (this.elsewhere) this.elsewhere.changed(event.data.id);
      else this.missedChange = true;
    };
  }

  // Events

  /**
   * Call `listener` at each event of a name.
   *
   * @template {keyof ChatEvents} E
   * @param {E} name
   * @param {(value: ChatEvents[E]) => void} listener
   */
  on(name, listener) {
    /** @type {((value: ChatEvents[E]) => void)[]} */
    const listeners = this.#listeners[name] ?? [];
    listeners.push(listener);
    Object.assign(this.#listeners, { [name]: listeners });
  }

  /**
   * Call the listeners of an event.
   *
   * @template {keyof ChatEvents} E
   * @param {E} name
   * @param {ChatEvents[E]} value
   */
  emit(name, value) {
    for (const listener of this.#listeners[name] ?? []) listener(value);
  }

  /** Emit that controls may have to change. */
  statusChanged() {
    this.emit("status", null);
  }

  /**
   * Show a problem.
   *
   * @param {Problem} problem
   */
  report(problem) {
    this.emit("problem", problem);
  }

  // What is open

  /** The open conversation; null until the first one is open. */
  get current() {
    return this.#current;
  }

  /** The answers under way; null until they are loaded. */
  get answers() {
    return this.#answers;
  }

  /** The open conversation's model; undefined when it is not offered. */
  get model() {
    return this.models.get(this.#current?.record.model ?? "");
  }

  /** The answer under way in the open conversation. */
  get running() {
    return this.#current?.path.map((message) => this.#answers?.of(message)).find(Boolean);
  }

  /** The ids of the conversations with an answer under way. */
  get answering() {
    return this.#answers?.answering ?? new Set();
  }

  /** True if costs are shown: not to guests, whose answers stored by older versions have them, too. */
  get seesCosts() {
    return this.visitor.kind === "owner" || this.visitor.kind === "key";
  }

  /** True if the visitor is the owner. */
  get isOwner() {
    return this.visitor.kind === "owner";
  }

  /**
   * Return the name of a model, its id where it is not offered any more.
   *
   * @param {string} id
   */
  modelName(id) {
    return this.models.get(id)?.name ?? id;
  }

  /**
   * Open a conversation; null: a new one.
   *
   * @param {string | null} id
   * @param {OpenOptions} [options]
   */
  async open(id, { push = true, keepFocus = false, passage = null, temporary, instead } = {}) {
    this.emit("leaving", null);
    const opening = Symbol("open");
    this.#opening = opening;
    /** @type {Conversation | null} */
    let conversation = null;
    /** @type {unknown} */
    let failure = null;
    /** @type {FileRecord[]} */
    let files = [];
    try {
      conversation = id ? await this.#find(id) : await this.#begin({ temporary, instead });
      files = await storedFiles(conversation?.record.draft?.files);
    } catch (error) {
      failure = error;
    }
    if (this.#opening !== opening) return;
    if (!conversation) {
      const isEnded = id && failure && this.ended; // the box says why
      if (id) await this.open(null, { push, instead: isEnded ? id : undefined });
      if (isEnded) return;
      const { notOpened } = await this.load(() => import("./problems.js"));
      this.report(notOpened(id, failure, this.place));
      return;
    }
    this.emit("leaving", null); // what was typed while the conversation was being read
    this.#current = conversation;
    const found = passage && conversation.tree.messages.get(passage.message);
    for (const message of found ? conversation.tree.before(found) : []) conversation.tree.choose(message);
    this.emit("address", { path: id || instead ? `/c/${id ?? instead}` : "/", push }); // the sign-in leads back there
    this.showMessages();
    this.emit("opened", { text: conversation.record.draft?.text ?? "", files, keepFocus: keepFocus || Boolean(found) });
    if (passage && found) this.emit("passage", passage);
  }

  /** @param {Pick<OpenOptions, "temporary" | "instead">} options */
  async #begin({ temporary, instead }) {
    if (!temporary) return Conversation.fresh(this.#firstModel(), instead);
    const conversation = Conversation.temporary(this.#firstModel());
    temporary(conversation.id);
    return conversation;
  }

  /** @param {string} id */
  async #find(id) {
    await this.joining;
    const answers = await this.loadAnswers();
    return answers.conversations.find((one) => one.id === id) ?? Conversation.read(id);
  }

  #firstModel() {
    const models = [...this.models.values()];
    const last = this.models.get(localStorage.getItem(LAST_MODEL) ?? "");
    return (last?.available ? last : (models.find((model) => model.available) ?? models[0]))?.id ?? "";
  }

  /**
   * Show the open conversation as it is now, attaching to its open answers. `elsewhere`: another tab has
   * changed it and may be asking just now.
   *
   * @param {boolean} [elsewhere]
   */
  showMessages(elsewhere = false) {
    const conversation = this.#current;
    if (!conversation) return;
    const { path } = conversation;
    this.history?.watch(conversation.started ? conversation.id : null);
    for (const message of path) {
      if (message.role === "user" || message.state !== "open" || this.#answers?.of(message)) continue;
      if (elsewhere && message.accepted === false) continue;
      this.#answers?.attach(message, conversation);
    }
    this.emit("messages", path);
    this.statusChanged();
  }

  /**
   * Emit the address of a conversation that has been started, or taken back.
   *
   * @param {Conversation} conversation
   */
  addressChanged(conversation) {
    if (conversation !== this.#current) return;
    this.emit("address", {
      path: conversation.started && !conversation.record.temporary ? `/c/${conversation.id}` : "/",
      push: false,
    });
  }

  // Saving

  /**
   * Wait until something is saved, and report when it cannot be.
   *
   * @template T
   * @param {Promise<T>} saving
   */
  async keep(saving) {
    try {
      return await saving;
    } catch (error) {
      this.report({
        text: error instanceof NoRoom ? texts.problems.storage_full : texts.problems.no_storage,
        action: { name: "export", label: texts.problems.export },
      });
      return undefined;
    }
  }

  /**
   * Save a conversation and some of its messages.
   *
   * @param {Conversation} conversation
   * @param {...Message} messages
   */
  async save(conversation, ...messages) {
    await this.keep(conversation.save(...messages));
    this.notifyTabs(conversation.id);
    this.emit("record", conversation.record);
  }

  /** @param {string} id of a conversation that is open here or has an answer under way */
  #live(id) {
    return [this.#current, ...(this.#answers?.conversations ?? [])].find((one) => one?.id === id);
  }

  /**
   * Return the record of a conversation that is open here or has an answer under way.
   *
   * @param {string} id
   */
  recordOf = (id) => this.#live(id)?.record;

  /**
   * Change a conversation's record: the one in use, where it is in use, so that no other change is lost.
   *
   * @param {string} id
   * @param {Partial<ConversationRecord>} changes
   */
  async change(id, changes) {
    const live = this.#live(id);
    const record = live ? Object.assign(live.record, changes) : await this.keep(change(id, changes));
    if (live) await this.keep(live.saveRecord());
    if (!record) return;
    this.emit("record", record);
    this.notifyTabs(id);
    if (record.deleted) for (const answer of this.#answers?.in(id) ?? []) answer.stop();
  }

  /**
   * Change settings of the open conversation.
   *
   * @param {Partial<ConversationRecord>} changes
   */
  changeSettings(changes) {
    if (!this.#current) return;
    Object.assign(this.#current.record, changes);
    this.keep(this.#current.saveRecord());
  }

  /**
   * Save the draft of the open conversation.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   */
  saveDraft(text, files) {
    if (this.#current) this.keep(this.#current.saveDraft(text, files));
  }

  /**
   * Save files that were attached to the draft.
   *
   * @param {FileRecord[]} files
   */
  saveFiles(files) {
    const conversation = this.#current;
    if (conversation) this.keep(this.joining.then(() => conversation.saveFiles(files)));
  }

  /** Read the settings of the page. */
  async readSettings() {
    this.enterKey = (await find("settings", "enter"))?.value ?? "auto";
    this.instructions = (await find("settings", "instructions"))?.value ?? "";
    this.emit("settings", null);
  }

  /** @param {EnterKey} value what the Enter key does */
  setEnterKey(value) {
    this.enterKey = value;
    this.keep(put("settings", { id: "enter", value }));
  }

  /** @param {string} value the instructions for all chats */
  setInstructions(value) {
    this.instructions = value;
    this.keep(put("settings", { id: "instructions", value }));
  }

  // Other tabs

  /**
   * Tell the other tabs that a conversation has changed; null: several have.
   *
   * @param {string | null} id
   */
  notifyTabs(id) {
    if (id && this.recordOf(id)?.temporary) return;
    this.#tabs.postMessage({ id });
  }

  // Asking

  /**
   * Import a module (see `loadModule`).
   *
   * @template T
   * @param {() => Promise<T>} importing
   * @param {{ patient?: boolean }} [options]
   */
  load(importing, options) {
    return loadModule(importing, options);
  }

  /**
   * Load what asks for answers, and what shows them.
   *
   * @param {{ patient?: boolean }} [options]
   */
  async loadAnswers(options) {
    if (this.#answers) return this.#answers;
    await this.joining;
    const modules = () => Promise.all([import("./answers.js"), this.#importTranscript()]);
    const [{ Answers }, build] = await this.load(modules, options);
    if (!this.#answers) {
      this.#answers = new Answers(this);
      build(this.#answers);
    }
    return this.#answers;
  }

  /**
   * Send a message; while an answer is under way it is queued.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   */
  async send(text, files) {
    const conversation = this.#current;
    if (!conversation) return;
    if (this.running || conversation.asking) {
      await conversation.enqueue(text, files);
      this.statusChanged();
      await this.keep(conversation.saveDraft("", []));
      this.notifyTabs(conversation.id);
      return;
    }
    const draft = conversation.boxed;
    conversation.asking = true; // from here on: what is sent while modules load is queued
    let answers;
    try {
      answers = await this.loadAnswers();
    } catch {
      conversation.asking = false;
      this.emit("returned", { text, files });
      return;
    }
    await answers.ask(conversation, { text, files, parent: conversation.path.at(-1) }, draft);
  }

  /**
   * Take a message out of the open conversation's queue; undefined when another tab has taken it.
   *
   * @param {QueuedMessage} message
   */
  async dequeue(message) {
    const conversation = this.#current;
    const taken = await conversation?.dequeue(message);
    if (conversation) this.notifyTabs(conversation.id);
    this.statusChanged();
    return taken;
  }

  /** Stop the answer under way in the open conversation. */
  stop = () => this.running?.stop();

  // Model and visitor

  /**
   * Choose the model of the open conversation, and of those that are started later.
   *
   * @param {string} id
   */
  setModel(id) {
    localStorage.setItem(LAST_MODEL, id);
    this.changeSettings({ model: id });
    this.statusChanged();
  }

  /**
   * Send nothing from this page any more.
   *
   * @param {{ text: string, action: Action }} ended why, and what helps
   */
  endSession(ended) {
    this.ended = ended;
    this.statusChanged();
    this.emit("visitor", null);
  }

  /** Go on: the visitor is signed in again. */
  resumeSession() {
    this.ended = null;
    this.emit("visitor", null);
    for (const answer of this.#answers?.in(this.#current?.id ?? "") ?? []) {
      if (answer.phase.name === "signedOut") answer.attach();
    }
    this.statusChanged();
  }

  /**
   * Set what is left of the visitor's limits.
   *
   * @param {Partial<Visitor>} limits
   */
  setLimits(limits) {
    this.visitor = { ...this.visitor, ...limits };
    this.emit("visitor", null);
  }
}
