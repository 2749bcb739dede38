// The box at the bottom: text, files, send and stop, the draft, the queue, and what prevents sending.

import { announce, el, fill, icon, isComposing, joined, part, texts } from "../../shell/page.js";
import { Alert, hintWords, limitedModel, whyBlocked } from "../limits.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { Tray } from "./attached.js" */
/** @import { Action, Draft, EnterKey, FileRecord, QueuedMessage } from "../state/types.js" */

/**
 * What the composer asks the page for. `editLast`: edit the last message, false where there is none.
 *
 * @typedef {{ perform: (action: Action) => void, editLast: () => boolean }} ComposerPage
 */

/** After so long without a letter the typing has ended. */
const PAUSE_MS = 3000;
const SAVE_MS = 300;
/** A longer text becomes a file; its card has a button that puts it back into the box. */
const LONG_PASTE = 4000;
const MAX_HEIGHT_PX = 280;
const touch = matchMedia("(pointer: coarse)");

/**
 * True if Enter alone sends a message, by the settings; on touch screens it is how a line is begun.
 *
 * @param {EnterKey} enterKey
 */
export const enterSends = (enterKey) => (enterKey === "auto" ? !touch.matches : enterKey === "send");

/**
 * True for the keys that send what is in a box for messages.
 *
 * @param {KeyboardEvent} event
 * @param {EnterKey} enterKey
 */
export function isSendKey(event, enterKey) {
  if (event.key !== "Enter" || isComposing(event)) return false;
  if (event.ctrlKey || event.metaKey) return true;
  return enterSends(enterKey) && !event.shiftKey && !event.altKey;
}

/** @param {string} name */
const named = (name) => `[data-part="${name}"]`;

/**
 * Take files that are dropped anywhere on the page: a browser shows a dropped file in place of the page.
 *
 * @param {HTMLElement} lit shows that files can be dropped
 * @param {(files: File[]) => void} take
 */
function listenToDrops(lit, take) {
  const isBlocked = () => document.querySelector("dialog[open]") !== null;
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const blocked = isBlocked();
    if (blocked) event.dataTransfer.dropEffect = "none";
    lit.classList.toggle("dropping", !blocked);
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) lit.classList.remove("dropping"); // the pointer has left the window
  });
  document.addEventListener("drop", (event) => {
    lit.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (event.dataTransfer.files.length && !isBlocked()) take([...event.dataTransfer.files]);
  });
}

/** The form of the page's template. */
export class Composer {
  #chat;
  #page;
  #text;
  #send;
  #stop;
  #picker;
  #cards;
  #queue;
  #hint;
  #alert;
  /** @type {Tray} */
  #tray = { files: [], reading: [], pasted: new Set() };
  /** How many choices of files are being read. */
  #attaching = 0;
  /** True if Enter was pressed meanwhile. */
  #sendsNext = false;
  #busy = false;
  #prepared = false;
  #composing = false;
  /** When somebody has typed last; 0: not since the draft was shown. */
  #typedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #later;
  /** The files that others have added to the draft. @type {FileRecord[]} */
  #others = [];
  /** @type {number | undefined} */
  #saving;

  /**
   * @param {HTMLFormElement} form
   * @param {Chat} chat
   * @param {ComposerPage} page
   */
  constructor(form, chat, page) {
    this.#chat = chat;
    this.#page = page;
    this.#text = part("textarea", HTMLTextAreaElement, form);
    this.#send = part(named("send"), HTMLButtonElement, form);
    this.#stop = part(named("stop"), HTMLButtonElement, form);
    this.#picker = part('input[type="file"]', HTMLInputElement, form);
    this.#cards = part(named("files"), HTMLElement, form);
    this.#queue = part(named("waiting"), HTMLElement, form);
    this.#hint = part(named("hint"), HTMLElement, form);
    this.#alert = new Alert(
      part(named("alert"), HTMLElement, form),
      (action) => page.perform(action),
      () => this.#refresh(),
    );
    this.#listenToForm(form);
    listenToDrops(part("main", HTMLElement), (files) => this.#attach(files));
    this.#listenToChat();
    this.#refresh();
  }

  /** What is typed and attached, null without any. */
  get content() {
    return this.#isEmpty ? null : { text: this.#text.value.trim(), files: this.#tray.files };
  }

  /** Move the focus to the box; not on touch screens, where that opens the keyboard. */
  focus() {
    if (!touch.matches) this.#text.focus({ preventScroll: true });
  }

  /** Move the focus to the box whatever the device. */
  focusText() {
    this.#text.focus();
  }

  /**
   * Put a text in the box, to be changed and sent.
   *
   * @param {string} text
   */
  fill(text) {
    this.#text.value = text;
    this.#changed();
    this.#text.focus();
  }

  /** Send what is in the box, if it can be sent; while files are being read, as soon as they are. */
  submit() {
    this.#sendsNext = this.#attaching > 0;
    if (this.#sendsNext) announce(texts.composer.sent_when_read);
    if (!this.#canSend) return;
    this.#save(); // the draft stays until the gateway has accepted the message
    const text = this.#text.value.trim();
    const files = this.#tray.files;
    this.#text.value = "";
    this.#tray.files = [];
    this.#alert.clear();
    this.#showFiles();
    this.#refresh();
    this.#chat.send(text, files);
  }

  // Listening

  /** @param {HTMLFormElement} form */
  #listenToForm(form) {
    const text = this.#text;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    text.addEventListener("input", () => {
      this.#sendsNext = false; // it goes on
      this.#changed();
    });
    text.addEventListener("compositionstart", () => {
      this.#composing = true;
    });
    text.addEventListener("compositionend", () => {
      this.#composing = false;
    });
    text.addEventListener("blur", () => this.#showOthers());
    text.addEventListener("keydown", (event) => this.#pressed(event));
    text.addEventListener("paste", (event) => this.#pasted(event));
    this.#stop.addEventListener("click", () => this.#chat.stop());
    part(named("attach"), HTMLElement, form).addEventListener("click", () => this.#picker.click());
    this.#picker.addEventListener("change", () => {
      this.#attach([...(this.#picker.files ?? [])]);
      this.#picker.value = "";
    });
    addEventListener("pagehide", () => this.#save());
    document.addEventListener("visibilitychange", () => document.hidden && this.#save());
  }

  #listenToChat() {
    const chat = this.#chat;
    chat.on("leaving", () => this.#save());
    chat.on("opened", ({ text, files }) => {
      this.#alert.clear();
      for (const { control } of this.#tray.reading) control.abort();
      this.#tray.reading = [];
      this.#sendsNext = false;
      this.#load(text, files);
      chat.current?.showsDraft();
    });
    chat.on("status", () => {
      this.#alert.modelChanged(chat.current?.record.model);
      this.#setBusy(Boolean(chat.running));
      this.#showQueue();
      this.#refresh();
    });
    chat.on("visitor", () => this.#refresh());
    chat.on("draft", (draft) => this.#takeDraft(draft));
    chat.on("returned", ({ text, files }) => this.#giveBack(text, files));
    chat.on("problem", (problem) => this.#alert.show(problem));
    chat.on("end", ({ message }) => {
      // The turn says why it has failed; here only the countdown is shown.
      const wait = message.error?.retryAfter;
      if (!wait || message.conversation !== chat.current?.id) return;
      this.#alert.show({ text: "", wait, model: limitedModel(message.error?.message, message.model) });
    });
    chat.on("deletedElsewhere", async () => {
      const text = this.#text.value;
      const files = this.#tray.files;
      await chat.open(null, { keepFocus: true });
      this.#giveBack(text, files);
      chat.saveFiles(files);
      this.#alert.show({ text: texts.composer.deleted_elsewhere });
    });
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (isComposing(event)) return;
    if (event.key === "ArrowUp" && !this.#text.value && !event.shiftKey) {
      if (this.#page.editLast()) event.preventDefault();
      return;
    }
    if (!isSendKey(event, this.#chat.enterKey)) return;
    event.preventDefault();
    this.submit();
  }

  /** @param {ClipboardEvent} event */
  #pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (files.length && !text) {
      event.preventDefault();
      this.#attach(files);
    } else if (text.length > LONG_PASTE) {
      event.preventDefault();
      const file = new File([text], "pasted.txt", { type: "text/plain" });
      this.#attach([file], true);
    }
  }

  // The draft

  #changed() {
    this.#typedAt = performance.now();
    this.#refresh();
    this.#prepare();
    this.#saving ??= setTimeout(() => this.#save(), SAVE_MS);
  }

  /** Load what will be needed when the message is sent. Sending tries again. */
  #prepare() {
    if (this.#prepared || this.#isEmpty) return;
    this.#prepared = true;
    this.#chat.loadAnswers({ patient: true }).catch(() => {});
  }

  /** Save what is typed now, if it has changed. */
  #save() {
    if (this.#saving === undefined) return;
    clearTimeout(this.#saving);
    this.#saving = undefined;
    this.#chat.saveDraft(this.#text.value, this.#tray.files);
  }

  /**
   * Replace what is in the box with a draft.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   */
  #load(text, files) {
    this.#typedAt = 0;
    clearTimeout(this.#later);
    this.#text.value = text;
    this.#tray.files = files;
    this.#showFiles();
    this.#refresh();
  }

  /**
   * Show what was typed on another device: after a pause in the typing here, or when the box is left.
   *
   * @param {Draft} draft
   */
  #takeDraft({ files }) {
    this.#others = files;
    clearTimeout(this.#later);
    const isHere = document.activeElement === this.#text || this.#composing;
    const pause = this.#typedAt && !this.#isEmpty ? this.#typedAt + PAUSE_MS - performance.now() : 0;
    const wait = isHere && (pause > 0 || this.#composing) ? Math.max(pause, SAVE_MS) : 0;
    if (wait) this.#later = setTimeout(() => this.#takeDraft({ text: "", files }), wait);
    else this.#showOthers();
  }

  /** Show what others have added to the draft. */
  #showOthers() {
    const { current } = this.#chat;
    if (current && !current.asking && current.boxed !== current.record.draft) this.#showDraft();
  }

  /** Show the whole draft. */
  #showDraft() {
    this.#save();
    const conversation = this.#chat.current;
    const [draft, text] = [conversation?.record.draft, this.#text];
    const caret = text.selectionEnd;
    const [before, behind] = [text.value.slice(0, caret), text.value.length - caret];
    const known = new Map([...this.#others, ...this.#tray.files].map((file) => [file.id, file]));
    const files = (draft?.files ?? []).map((file) => known.get(file.id) ?? file);
    this.#load(draft?.text ?? "", files);
    conversation?.showsDraft();
    if (document.activeElement !== text) return;
    text.selectionStart = text.selectionEnd = text.value.startsWith(before) ? caret : text.value.length - behind;
  }

  /**
   * Put a message that could not be sent back in the box, above what was typed since.
   *
   * @param {string} text
   * @param {FileRecord[]} files
   */
  #giveBack(text, files) {
    this.#text.value = [text, this.#text.value].filter(Boolean).join("\n\n");
    this.#tray.files = [...files, ...this.#tray.files];
    this.#showFiles();
    this.#changed();
  }

  // What is shown

  get #isEmpty() {
    return this.#text.value.trim() === "" && this.#tray.files.length === 0;
  }

  get #canSend() {
    return !this.#isEmpty && !this.#alert.wait && !this.#attaching && !whyBlocked(this.#chat, this.#tray.files);
  }

  /**
   * Show whether an answer is under way: Stop replaces Send until something is typed.
   *
   * @param {boolean} busy
   */
  #setBusy(busy) {
    if (this.#busy === busy) return;
    this.#busy = busy;
    if (busy) this.#alert.clearCalm();
    const focused = document.activeElement;
    this.#refresh();
    // A focused button that is hidden would leave the keyboard without a place on the page.
    if ([this.#stop, this.#send].some((button) => button === focused && button.hidden)) this.focus();
  }

  #refresh() {
    const text = this.#text;
    const send = this.#send;
    const busy = this.#busy;
    send.hidden = busy && this.#isEmpty;
    send.disabled = !this.#canSend;
    send.setAttribute("aria-label", busy ? texts.composer.send_next : texts.composer.send);
    const titles = busy
      ? [texts.composer.send_next, texts.composer.send_next_title]
      : [texts.composer.send, texts.composer.send_title];
    send.title = titles[Number(enterSends(this.#chat.enterKey))];
    this.#stop.hidden = !busy;
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, MAX_HEIGHT_PX)}px`;
    text.style.overflowY = text.scrollHeight > MAX_HEIGHT_PX ? "auto" : "hidden";
    this.#showHint();
  }

  #showHint() {
    const blocked = whyBlocked(this.#chat, this.#tray.files, Boolean(this.#text.value.trim()));
    const hint = hintWords(this.#chat, { text: this.#text.value, files: this.#tray.files });
    const { action, text } = blocked ?? hint;
    const warns = text && (blocked || hint.warn);
    this.#hint.className = warns ? "hint warn" : "hint";
    if (!warns) {
      this.#hint.replaceChildren(text);
      return;
    }
    this.#hint.replaceChildren(icon("triangle-alert"), el("span", {}, text));
    if (!action) return;
    const onclick = () => this.#page.perform(action);
    this.#hint.append(el("button", { type: "button", class: "button", onclick }, action.label));
  }

  async #showQueue() {
    const chat = this.#chat;
    const queue = chat.current?.queue ?? [];
    this.#queue.hidden = queue.length === 0;
    if (this.#queue.hidden) {
      this.#queue.replaceChildren();
      return;
    }
    const { queueEntries } = await chat.load(() => import("./queue.js"));
    if (queue !== chat.current?.queue) return; // it has changed, and is shown by a later call
    const edit = (/** @type {QueuedMessage} */ { text, files }) => this.#giveBack(text, files);
    this.#queue.replaceChildren(...queueEntries(chat, queue, { busy: this.#busy, edit }));
  }

  // Files

  #importTray() {
    return this.#chat.load(() => import("./attached.js"));
  }

  /**
   * @param {File[]} list
   * @param {boolean} [isText] whether they were pasted as text
   */
  async #attach(list, isText = false) {
    this.#attaching += 1;
    this.#refresh();
    try {
      await this.#read(list, isText);
    } finally {
      this.#attaching -= 1;
      this.#refresh();
    }
    if (this.#sendsNext && !this.#attaching) this.submit();
  }

  /**
   * @param {File[]} list
   * @param {boolean} isText
   */
  async #read(list, isText) {
    const chat = this.#chat;
    const conversation = chat.current;
    const { attach } = await this.#importTray();
    this.#alert.clear();
    const changed = () => {
      this.#showFiles();
      this.#changed();
    };
    const problems = await attach(this.#tray, list, { chat, isText, changed });
    if (conversation !== chat.current) return;
    if (problems.length) {
      this.#sendsNext = false;
      this.#alert.show({ text: joined(...problems) });
    } else announce(fill(texts.composer.attached, { names: list.map(({ name }) => name).join(", ") }));
    this.focus();
  }

  async #showFiles() {
    const { files, reading } = this.#tray;
    this.#cards.hidden = files.length + reading.length === 0;
    if (this.#cards.hidden) {
      this.#cards.replaceChildren();
      return;
    }
    const { showTray } = await this.#importTray();
    showTray(this.#cards, this.#tray, {
      changed: () => this.#changed(),
      insert: (text) => {
        this.#text.setRangeText(text, this.#text.selectionStart, this.#text.selectionEnd, "end");
        this.#changed();
        this.focusText();
      },
      focus: () => this.focusText(),
    });
  }

  /** Begin a new chat with what is in the box, or with the question whose answer has failed. */
  async toNewChat() {
    const chat = this.#chat;
    const { carryOver } = await chat.load(() => import("./carrying.js"));
    const typed = this.content;
    this.#load("", []);
    await carryOver(chat, typed);
    this.focus();
  }
}
