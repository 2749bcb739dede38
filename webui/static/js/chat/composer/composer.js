// The box at the bottom: text, files, send and stop, drafts, and what stands in the way of sending.

import { el, icon, iconButton, plural, size, span } from "../../shell/page.js";
import { tokensOf } from "../state/session.js";
import { find } from "../state/store.js";

const SAVE_MS = 300;
const LONG_PASTE = 20_000;
const TALLEST_PX = 280;
const coarse = matchMedia("(pointer: coarse)");

/**
 * Reads the form that came with the page. `acts`: `send(text, files)`, `stop()`, `draft(text, files)`
 * to keep what is typed, `editLast()`, and `blocked(files)` giving why nothing, or not these files,
 * can be sent.
 */
export class Composer {
  constructor(form, acts) {
    this.form = form;
    this.acts = acts;
    this.files = [];
    this.busy = false;
    this.enterSends = "auto";
    this._wait = 0;
    this._saving = null;
    const part = (name) => form.querySelector(`[data-part="${name}"]`);
    this.text = form.querySelector("textarea");
    this.sendButton = part("send");
    this.stopButton = part("stop");
    this.attachButton = part("attach");
    this.picker = form.querySelector('input[type="file"]');
    this.alert = part("alert");
    this.cards = part("files");
    this.waiting = part("waiting");
    this.hint = part("hint");
    this._listen();
    this.refresh();
  }

  _listen() {
    const { form, text } = this;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    text.addEventListener("input", () => this._changed());
    text.addEventListener("keydown", (event) => this._pressed(event));
    text.addEventListener("paste", (event) => this._pasted(event));
    this.stopButton.addEventListener("click", () => this.acts.stop());
    this.attachButton.addEventListener("click", () => this.picker.click());
    this.picker.addEventListener("change", () => {
      this.attach([...this.picker.files]);
      this.picker.value = "";
    });
    const zone = document.querySelector("main");
    zone.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      zone.classList.add("dropping");
    });
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.classList.remove("dropping");
    });
    zone.addEventListener("drop", (event) => {
      zone.classList.remove("dropping");
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.attach([...event.dataTransfer.files]);
    });
    addEventListener("pagehide", () => this.save());
    document.addEventListener("visibilitychange", () => document.hidden && this.save());
  }

  _pressed(event) {
    if (event.isComposing || event.keyCode === 229) return; // the input method's own Enter
    if (event.key === "ArrowUp" && !this.text.value && !event.shiftKey) {
      if (this.acts.editLast()) event.preventDefault();
      return;
    }
    if (event.key !== "Enter") return;
    const always = event.ctrlKey || event.metaKey;
    const sends = this.enterSends === "auto" ? !coarse.matches : this.enterSends === "send";
    if (!always && (event.shiftKey || event.altKey || !sends)) return;
    event.preventDefault();
    this.submit();
  }

  _pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (files.length && !text) {
      event.preventDefault();
      this.attach(files);
    } else if (text.length > LONG_PASTE) {
      event.preventDefault();
      this.attach([new File([text], "pasted.txt", { type: "text/plain" })]);
    }
  }

  _changed() {
    this.refresh();
    this._saving ??= setTimeout(() => this.save(), SAVE_MS);
  }

  /** Keep what is typed, now. */
  save() {
    if (this._saving === null) return;
    clearTimeout(this._saving);
    this._saving = null;
    this.acts.draft(this.text.value, this.files);
  }

  /** Show a draft in place of what is there. */
  load(text, files = []) {
    this.save();
    this.text.value = text;
    this.files = files;
    this._showFiles();
    this.refresh();
  }

  /** Give text back that could not be sent; what was typed since stands below it. */
  giveBack(text, files) {
    this.text.value = [text, this.text.value].filter(Boolean).join("\n\n");
    this.files = [...files, ...this.files];
    this._showFiles();
    this._changed();
  }

  /** Put a text in the box, to be changed and sent. */
  fill(text) {
    this.text.value = text;
    this._changed();
    this.text.focus();
  }

  get isEmpty() {
    return this.text.value.trim() === "" && this.files.length === 0;
  }

  get canSend() {
    return !this.isEmpty && this._wait === 0 && !this.acts.blocked(this.files);
  }

  /** Send what is there, if it can be sent. */
  submit() {
    if (!this.canSend) return;
    this.save(); // the draft stays until the gateway has taken the message
    const text = this.text.value.trim();
    const files = this.files;
    this.text.value = "";
    this.files = [];
    this.clearAlert();
    this._showFiles();
    this.refresh();
    this.acts.send(text, files);
  }

  /** Show whether an answer is under way: Stop stands where Send was, until something is typed. */
  setBusy(busy) {
    if (this.busy === busy) return;
    this.busy = busy;
    const focused = document.activeElement;
    this.refresh();
    // A button that vanishes under the hands must not take the keyboard's place with it.
    if ((focused === this.stopButton || focused === this.sendButton) && focused.hidden) this.focus();
  }

  focus() {
    if (!coarse.matches) this.text.focus({ preventScroll: true });
  }

  refresh() {
    const { text, sendButton, busy } = this;
    const label = busy ? "Send next" : "Send";
    sendButton.hidden = busy && this.isEmpty;
    sendButton.disabled = !this.canSend;
    sendButton.setAttribute("aria-label", label);
    sendButton.title = busy ? "Send when this answer is complete (Enter)" : "Send (Enter)";
    this.stopButton.hidden = !busy;
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, TALLEST_PX)}px`;
    text.style.overflowY = text.scrollHeight > TALLEST_PX ? "auto" : "hidden";
    this._showHint();
  }

  _showHint() {
    const blocked = this.acts.blocked(this.files);
    if (blocked) {
      const button = blocked.action
        ? el("button", { type: "button", class: "button", onclick: blocked.action }, blocked.label)
        : null;
      this.hint.replaceChildren(icon("triangle-alert"), el("span", {}, blocked.text), ...(button ? [button] : []));
      this.hint.className = "hint warn";
      return;
    }
    const readable = this.files.filter((file) => file.kind === "text");
    const letters = readable.reduce((sum, file) => sum + file.size, this.text.value.length);
    const told = this.acts.room(tokensOf(letters));
    this.hint.className = told.warn ? "hint warn" : "hint";
    this.hint.replaceChildren(told.text);
  }

  /** Take files in, each checked before anything else happens with it. */
  async attach(list) {
    const { takeFiles } = await this.acts.load(() => import("./attachments.js"));
    const { taken, problems } = await takeFiles(list, this.acts.limits);
    this.files = [...this.files, ...taken];
    this._showFiles();
    if (problems.length) this.showAlert(problems.join(" "));
    else this.clearAlert();
    this.acts.keepFiles(taken);
    this._changed();
    this.focus();
  }

  _showFiles() {
    this.cards.replaceChildren(...this.files.map((file) => this._card(file)));
    this.cards.hidden = this.files.length === 0;
  }

  _card(file) {
    const remove = iconButton("x", `Remove ${file.name}`);
    remove.addEventListener("click", () => {
      const at = this.files.indexOf(file);
      this.files = this.files.filter((other) => other !== file);
      this._showFiles();
      this._changed();
      (this.cards.querySelectorAll("button")[Math.min(at, this.files.length - 1)] ?? this.text).focus();
    });
    const card = fileCard(file);
    card.append(remove);
    return card;
  }

  /** Show what is wrong; with `wait` seconds Send is off until they have passed. */
  showAlert(text, { wait = null, action = null, label = "" } = {}) {
    clearInterval(this._ticking);
    this._wait = wait ? Math.ceil(wait) : 0;
    const ends = Date.now() + this._wait * 1000;
    const left = el("span", { "aria-live": "off" });
    const tell = () => (left.textContent = ` You can send again in ${span(this._wait)}.`);
    const parts = [icon("circle-alert"), el("p", {}, text, left)];
    if (action) parts.push(el("button", { type: "button", class: "button", onclick: action }, label));
    if (this._wait) {
      tell();
      this._ticking = setInterval(() => {
        this._wait = Math.max(Math.ceil((ends - Date.now()) / 1000), 0);
        if (this._wait) tell();
        else this.clearAlert();
      }, 250);
    } else {
      parts.push(iconButton("x", "Dismiss", { onclick: () => this.clearAlert() }));
    }
    this.alert.replaceChildren(...parts);
    this.alert.hidden = false;
    this.refresh();
  }

  /** Count down to when an answer that has failed can be asked for again; its turn tells why it has. */
  showWait(seconds) {
    if (seconds) this.showAlert("", { wait: seconds });
  }

  /** Take the alert away, unless it still counts down. */
  clearAlert() {
    if (this._wait) return;
    clearInterval(this._ticking);
    this.alert.hidden = true;
    this.alert.replaceChildren();
    this.refresh();
  }

  /** Show the messages that wait for their turn. */
  showWaiting(waiting, { remove, edit, send }) {
    this.waiting.hidden = waiting.length === 0;
    this.waiting.replaceChildren(
      ...waiting.map((message) =>
        el(
          "li",
          {},
          el("span", { class: "quiet" }, "Next: "),
          el("span", { class: "clip" }, message.text || plural(message.files.length, "file")),
          this.busy ? null : iconButton("arrow-up", "Send queued message", { onclick: () => send(message) }),
          iconButton("pencil", "Edit queued message", { onclick: () => edit(message) }),
          iconButton("x", "Remove queued message", { onclick: () => remove(message) }),
        ),
      ),
    );
  }
}

/** Make the card of a file; an image shows itself. */
export function fileCard(file) {
  const card = el("div", { class: `file ${file.kind}` });
  if (file.kind === "image" && file.blob) {
    const url = URL.createObjectURL(file.blob);
    const image = el("img", { src: url, alt: file.name, onload: () => URL.revokeObjectURL(url) });
    card.append(image);
  } else {
    card.append(icon(file.kind === "image" ? "image" : file.kind === "text" ? "file-text" : "file"));
  }
  const unread = file.kind === "other" ? " · the model sees its name only" : "";
  card.append(
    el("span", { class: "name", title: file.name }, file.name),
    el("span", { class: "about" }, `${size(file.size)}${unread}`),
  );
  return card;
}

/** Make the card of a file that is kept; an image shows itself once it is found. */
export function storedCard(file) {
  const card = fileCard(file);
  if (file.kind === "image") {
    find("files", file.id).then((kept) => kept?.blob && card.replaceWith(fileCard(kept)));
  }
  return card;
}
