// The connection of this tab to the history on the server: sends the outbox, asks for what is new, and
// knows when that is not possible. The tabs of a person share what they hear over a BroadcastChannel.

import { ApiError } from "../../shell/api.js";
import { REACHABLE_EVENT, SESSION_EVENT } from "../../shell/page.js";
import { problemWords } from "../state/problems.js";

/** @import { CallOptions } from "../../shell/api.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { RemoteListener } from "../state/types.js" */
/** @import { Remote } from "./remote.js" */

/**
 * How it stands. "out": this browser is not signed in as this person any more; "off": the owner has
 * switched the history off; "refused": the server does not take a change.
 *
 * @typedef {"ok" | "offline" | "full" | "out" | "off" | "refused"} ConnectionState
 * @typedef {{ state: ConnectionState, unsent: number, why: string }} ConnectionStatus
 */

/** @typedef {{ kind: "ask" | "alive" | "gone" | "changed" | "polled" | "bye", tab: string, cursor?: number }} Said */

const VISIBLE_MS = 1500;
const HIDDEN_MS = 15_000;
const SLOWEST_MS = 30_000;
const FULL_MS = 60_000;
const GATHER_MS = 30;
/** A question is sent once the gateway has accepted it, or after this time. */
const REFUSAL_MS = 3000;
const ANSWER_MS = 400;
const MAX_KEEPALIVE_CHARS = 30_000;
const LAST_TAB = "roxy-tab";

/**
 * @param {unknown} error
 * @returns {ConnectionState}
 */
export function stateOf(error) {
  if (!(error instanceof ApiError)) return "refused";
  const { status, code } = error;
  if (code === "history_full") return "full";
  if (code === "history_off") return "off";
  if (status === 401 || ["history_unavailable", "xsrf_refused"].includes(code)) return "out";
  if (status === 0 || status >= 500 || status === 408 || status === 429) return "offline";
  return "refused";
}

/** Keeps a Remote and the server in step. */
export class Connection {
  #remote;
  #outbox;
  #tab;
  #channel;
  /** @type {RemoteListener | null} */
  #listener = null;
  /** @type {ConnectionStatus} */
  #status = { state: "ok", unsent: 0, why: "" };
  #stopped = false;
  #failures = 0;
  #heard = 0;
  #isPolling = false;
  #isSending = false;
  /** @type {number | undefined} */
  #polling;
  /** @type {number | undefined} */
  #sending;
  /** @type {Map<string, number>} when a conversation's changes may be tried (again) */
  #notBefore = new Map();
  /** @type {Set<string>} the other tabs of this person */
  #alive = new Set();
  /** @type {(value?: unknown) => void} */
  #firstPolled = () => {};
  /** Done when the list has been read once, or could not be. */
  polled = new Promise((resolve) => {
    this.#firstPolled = resolve;
  });
  /** Done when what the last page of this tab left is known. */
  ready;

  /**
   * @param {Remote} remote
   * @param {Outbox} outbox
   * @param {string} person
   * @param {string} tab
   */
  constructor(remote, outbox, person, tab) {
    this.#remote = remote;
    this.#outbox = outbox;
    this.#tab = tab;
    this.#channel = new BroadcastChannel(`roxy-history-${person}`);
    this.ready = this.#adoptLast();
  }

  get status() {
    return this.#status;
  }

  /**
   * Return the options of a call. One that saves something outlives a page that is being left.
   *
   * @param {CallOptions} [options]
   * @returns {CallOptions}
   */
  options(options = {}) {
    const { body } = options;
    const keepalive = document.hidden && typeof body === "string" && body.length < MAX_KEEPALIVE_CHARS;
    return { ...options, keepalive };
  }

  /** @param {RemoteListener} listener */
  start(listener) {
    this.#listener = listener;
    this.#channel.onmessage = ({ data }) => this.#said(data);
    this.#say("ask");
    setTimeout(() => this.#adopt(this.#alive), ANSWER_MS);
    document.addEventListener("visibilitychange", () => document.hidden || this.pollNow());
    document.addEventListener(SESSION_EVENT, () => this.#stopped || this.#end("out", ""));
    addEventListener("online", () => this.#again());
    document.addEventListener(REACHABLE_EVENT, () => this.#again());
    addEventListener("pagehide", () => this.#say("gone"));
    this.pollNow();
    this.sendSoon();
  }

  /** Try again at once. */
  #again() {
    this.#failures = 0;
    this.#retryAll();
    this.pollNow();
  }

  /** Try what was refused again: there may be room now. */
  #retryAll() {
    this.#notBefore.clear();
    this.#remote.sender.retryFiles();
    this.sendSoon();
  }

  /** End all calls to the server; what is unsent stays in this browser. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#polling);
    clearTimeout(this.#sending);
    this.#channel.close();
  }

  // Tabs

  /**
   * @param {Said["kind"]} kind
   * @param {Partial<Said>} [more]
   */
  #say(kind, more) {
    if (!this.#stopped) this.#channel.postMessage({ kind, tab: this.#tab, ...more });
  }

  /** @param {Said} said */
  #said({ kind, tab, cursor }) {
    this.#alive.add(tab);
    if (kind === "ask") this.#say("alive");
    else if (kind === "changed") this.pollNow();
    else if (kind === "bye") this.#signedOut();
    else if (kind === "polled" && cursor === this.#remote.cursor) this.#heard = Date.now();
    else if (kind === "polled" && cursor) this.pollNow();
    else if (kind === "gone") {
      this.#alive.delete(tab);
      setTimeout(() => this.#adopt(this.#alive), ANSWER_MS);
    }
  }

  /** End: the person has signed out in another tab, which deletes what this browser has of them. */
  #signedOut() {
    this.#end("out", "");
    this.#remote.leave();
    try {
      sessionStorage.clear();
    } catch {
      // It is not available, so it holds nothing.
    }
  }

  /** @param {Set<string>} alive */
  async #adopt(alive) {
    if (this.#stopped) return;
    const ids = await this.#outbox.adopt(alive).catch(() => []);
    if (!ids.length) return;
    this.#remote.adopted(ids);
    this.sendSoon();
  }

  /** Take over what the page before this one, in the same tab, could not send. */
  async #adoptLast() {
    try {
      const last = sessionStorage.getItem(LAST_TAB);
      sessionStorage.setItem(LAST_TAB, this.#tab);
      if (last) await this.#outbox.adopt(new Set(), last);
    } catch {
      // No session storage, or no database: the tabs find out otherwise, or there is nothing to find.
    }
  }

  // Asking for what is new

  /** Ask for what is new now. */
  pollNow() {
    if (this.#stopped) return;
    clearTimeout(this.#polling);
    this.#polling = setTimeout(() => this.#poll(), 0);
  }

  #pollLater() {
    if (this.#stopped) return;
    clearTimeout(this.#polling);
    const usual = document.hidden ? HIDDEN_MS : VISIBLE_MS;
    const wait = Math.min(usual * 2 ** this.#failures, SLOWEST_MS);
    this.#polling = setTimeout(() => {
      if (Date.now() - this.#heard < usual / 2) this.#pollLater();
      else this.#poll();
    }, wait);
  }

  async #poll() {
    if (this.#isPolling) {
      this.#pollLater();
      return;
    }
    this.#isPolling = true;
    try {
      await this.ready;
      const before = this.#remote.cursor;
      let more = true;
      while (more && !this.#stopped) more = await this.#remote.poll();
      if (before !== this.#remote.cursor) this.#say("polled", { cursor: this.#remote.cursor });
      const wasAway = this.#failures > 0;
      this.#failures = 0;
      // Files that the last page could not send are recognized by their conversation, once that is known.
      if (wasAway || before === 0) this.sendSoon();
      if (this.#status.state === "offline" || !this.#outbox.conversations.length) this.#setState("ok");
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#isPolling = false;
      this.#firstPolled();
      this.#pollLater();
    }
  }

  /** @param {unknown} error */
  #failed(error) {
    if (this.#stopped) return;
    const state = stateOf(error);
    const why = problemWords(error);
    if (state === "out" || state === "off") this.#end(state, why);
    else {
      if (state !== "full") this.#failures = Math.min(this.#failures + 1, 8);
      this.#setState(state, why);
    }
  }

  /**
   * @param {ConnectionState} state
   * @param {string} why
   */
  #end(state, why) {
    this.stop();
    this.#setState(state, why);
    this.#firstPolled();
  }

  /**
   * @param {ConnectionState} state
   * @param {string} [why]
   */
  #setState(state, why = "") {
    const unsent = this.#outbox.conversations.filter((id) => !this.#remote.sender.isUnstarted(id)).length;
    const { state: before, unsent: count } = this.#status;
    this.#status = { state, unsent, why };
    if (before !== state || (count !== unsent && state !== "ok")) this.#listener?.status(this.#status);
  }

  // Sending

  /** Send the outbox in a moment, with what is written until then. */
  sendSoon() {
    if (this.#stopped) return;
    clearTimeout(this.#sending);
    this.#sending = setTimeout(() => this.#sendAll(), GATHER_MS);
  }

  async #sendAll() {
    if (this.#isSending) {
      this.sendSoon();
      return;
    }
    this.#isSending = true;
    let sent = false;
    let next = Number.POSITIVE_INFINITY;
    try {
      await this.ready;
      for (const id of this.#outbox.waiting) {
        if (this.#stopped || this.#remote.sender.isUnstarted(id)) continue;
        const wait = this.#waitOf(id);
        if (wait <= 0) sent = (await this.#sendOne(id)) || sent;
        const again = wait > 0 ? wait : this.#waitOf(id);
        if (again > 0) next = Math.min(next, again);
      }
      if (!this.#stopped) await this.#remote.sendSettings();
    } catch (error) {
      this.#failed(error);
      next = Math.min(VISIBLE_MS * 2 ** this.#failures, SLOWEST_MS);
    }
    this.#isSending = false;
    if (sent) this.#say("changed");
    if (sent && !this.#outbox.conversations.length) this.#setState("ok");
    if (this.#stopped || !Number.isFinite(next)) return;
    clearTimeout(this.#sending);
    this.#sending = setTimeout(() => this.#sendAll(), next);
  }

  /**
   * Return how long a conversation's changes have to wait yet.
   *
   * @param {string} id
   */
  #waitOf(id) {
    const now = Date.now();
    if (this.#remote.sender.mayBeRefused(id)) {
      if (!this.#notBefore.has(id)) this.#notBefore.set(id, now + REFUSAL_MS);
      return (this.#notBefore.get(id) ?? 0) - now;
    }
    const { state } = this.#status;
    const refused = state === "full" || state === "refused" ? (this.#notBefore.get(id) ?? 0) - now : 0;
    return Math.max(refused, this.#remote.sender.waitOfFiles(id));
  }

  /**
   * Send a conversation's changes. Returns false when the server does not take them; raises what concerns all
   * conversations.
   *
   * @param {string} id
   */
  async #sendOne(id) {
    try {
      const isErasure = this.#outbox.of(id)?.erase;
      const full = await this.#remote.sender.send(id);
      this.#notBefore.delete(id);
      if (full) this.#failed(full);
      if (isErasure) this.#retryAll();
      return true;
    } catch (error) {
      const state = stateOf(error);
      if (state !== "full" && state !== "refused") throw error;
      this.#notBefore.set(id, Date.now() + FULL_MS);
      this.#failed(error);
      return false;
    }
  }

  /**
   * Send everything now. Returns true if nothing is left.
   *
   * @param {number} ms how long to try
   */
  async flush(ms) {
    const end = Date.now() + ms;
    this.#retryAll();
    const isLeft = () => this.#outbox.conversations.some((id) => !this.#remote.sender.isUnstarted(id));
    while (isLeft() && !this.#stopped && Date.now() < end) {
      await this.#sendAll();
      if (isLeft()) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return !isLeft();
  }
}
