// What limits sending: what is left of the visitor's limits and of the model's context, in words, and the line above
// the message box that says what went wrong there, or for how long nothing can be sent.

import {
  AWAY_EVENT,
  announce,
  BETWEEN,
  count,
  el,
  fill,
  icon,
  iconButton,
  language,
  money,
  pluralText,
  short,
  size,
  span,
  texts,
} from "../shell/page.js";
import {
  bytesOfTurns,
  estimateTokens,
  imagesLeftOut,
  roundTokens,
  shownFiles,
  tokensOfFiles,
  usedTokens,
} from "./state/records.js";

/** @import { Plural } from "../shell/catalogue.js" */
/** @import { Chat } from "./state/chat.js" */
/** @import { Action, FileRecord, Model, Problem, Quota, Visitor } from "./state/types.js" */

const WARN_AT = 0.8;

const LOW = 0.2;

/**
 * Return what is left of a visitor's limits, and whether it is little. A limit that comes back within a
 * minute is shown only when little of it is left.
 *
 * @param {Visitor} visitor
 * @returns {{ text: string, low: boolean }}
 */
export function standingWords({ remaining }) {
  const { requests: minute, requests_day: day, budget } = remaining ?? {};
  /** @type {{ text: string, share: number }[]} */
  const parts = [];
  /**
   * @param {Plural} forms
   * @param {Quota} quota
   */
  const messages = (forms, { remaining: left, limit }) => pluralText(forms, limit, { left: count(left) });
  /** @param {Quota} quota */
  const share = ({ remaining: left, limit }) => left / limit;
  if (day) parts.push({ text: messages(texts.chat.today, day), share: share(day) });
  if (budget) {
    const left = Math.max(budget.limit_microusd - budget.spent_microusd, 0);
    parts.push({
      text: fill(texts.chat.budget, { left: money(left), limit: money(budget.limit_microusd) }),
      share: left / budget.limit_microusd,
    });
  }
  if (minute && share(minute) < LOW) {
    parts.push({ text: messages(texts.chat.this_minute, minute), share: share(minute) });
  }
  /**
   * @param {string} first
   * @param {string} rest
   */
  const joined = (first, rest) => fill(texts.chat.list, { first, rest });
  const words = parts.map((one) => one.text);
  return { text: words.length ? words.reduce(joined) : "", low: parts.some((one) => one.share < LOW) };
}

/**
 * Return words as the beginning of a line.
 *
 * @param {string} words
 */
export const asSentence = (words) => words.charAt(0).toLocaleUpperCase(language) + words.slice(1);

/**
 * Return what the box says about what is typed and attached: how much it is and how full the context gets, or
 * what is left of the limits.
 *
 * @param {Chat} chat
 * @param {{ text: string, files: FileRecord[] }} typed
 * @returns {{ warn?: boolean, text: string, action?: Action }}
 */
export function hintWords(chat, { text, files }) {
  const { current, model } = chat;
  if (!current || !model) return { text: "" };
  const tokens = estimateTokens(text) + tokensOfFiles(files);
  const needed = usedTokens(current.path) + tokens;
  const part = needed / model.context_window;
  if (part > 1) {
    const words = fill(texts.composer.too_long, { model: model.name, tokens: short(model.context_window) });
    return { warn: true, text: words, action: largerModel(chat, needed, files) };
  }
  if (part > WARN_AT) {
    const full = part.toLocaleString(language, { style: "percent" });
    return { warn: true, text: fill(texts.composer.nearly_full, { model: model.name, part: full }) };
  }
  const turns = [...current.path, { text, files }];
  const bytes = bytesOfTurns(turns);
  if (bytes > WARN_AT * chat.maxBodyBytes) {
    return {
      warn: true,
      text: fill(texts.composer.heavy, { size: size(bytes), limit: size(chat.maxBodyBytes) }),
    };
  }
  const left = imagesLeftOut(turns).size;
  const areUnseen = !takesImages(model) && turns.some(hasImage);
  const { text: standing, low } = standingWords(chat.visitor);
  if (areUnseen && (tokens || !low)) return { text: fill(texts.composer.images_unseen, { model: model.name }) };
  if (left && tokens) return { text: pluralText(texts.composer.images_left_out, left) };
  if (!tokens) return current.started ? { warn: low, text: asSentence(standing) } : { text: "" };
  const rest = short(model.context_window - needed);
  const forms = files.length ? texts.composer.tokens_left : texts.composer.tokens;
  return { text: pluralText(forms, roundTokens(tokens), { left: rest }) };
}

/**
 * Return the action that switches to the next larger model, if one would do.
 *
 * @param {Chat} chat
 * @param {number} needed
 * @param {FileRecord[]} files
 * @returns {Action | undefined}
 */
function largerModel(chat, needed, files) {
  const images = files.some((file) => file.kind === "image");
  const larger = [...chat.models.values()]
    .filter((one) => one.available && one.context_window > needed && (!images || takesImages(one)))
    .sort((a, b) => a.context_window - b.context_window);
  const other = larger[0];
  return other && { name: "switchModel", label: fill(texts.composer.switch, { model: other.name }), model: other.id };
}

/** @param {{ text: string, files?: FileRecord[] }} turn */
const hasImage = ({ files }) => shownFiles(files ?? []).some((file) => file.kind === "image");

/** @param {Model} model */
export const takesImages = (model) => model.modalities.input.includes("image");

/**
 * Return why this visitor cannot send, or not these files to this model; null: they can.
 *
 * @param {Chat} chat
 * @param {FileRecord[]} files
 * @param {boolean} [typed] whether there is something to send
 * @returns {{ text: string, action?: Action } | null}
 */
export function whyBlocked(chat, files, typed = false) {
  const { current, ended, model, visitor } = chat;
  if (ended) return ended;
  if (visitor.kind === "nobody") {
    return {
      text: current?.started || typed ? texts.composer.guests_off : "", // a new chat says it above the box
      action: { name: "signIn", label: texts.chat.sign_in },
    };
  }
  if (!current) return null;
  if (!model) {
    const text = fill(texts.composer.not_here, { model: current.record.model || texts.chat.no_model });
    return { text, action: { name: "model", label: texts.composer.choose_model } };
  }
  const bytes = files.length ? bytesOfTurns([...current.path, { text: "", files }]) : 0;
  if (bytes > chat.maxBodyBytes) {
    const sums = { size: size(bytes), limit: size(chat.maxBodyBytes) };
    if (!current.started) return { text: fill(texts.composer.too_heavy, sums) };
    return {
      text: fill(texts.composer.too_heavy_started, sums),
      action: { name: "new", label: texts.answers.new_chat },
    };
  }
  if (!files.some((file) => file.kind === "image") || takesImages(model)) return null;
  const other = [...chat.models.values()].find((one) => one.available && takesImages(one));
  const text = fill(other ? texts.composer.no_images : texts.composer.remove_images, { model: model.name });
  return other
    ? {
        text,
        action: { name: "switchModel", label: fill(texts.composer.switch, { model: other.name }), model: other.id },
      }
    : { text };
}

/**
 * Return the model that a limit is about; null: it is a limit of the visitor, whatever the model.
 *
 * @param {string | undefined} text of the error
 * @param {string} model
 */
export const limitedModel = (text, model) => (text === texts.problems.provider_limited ? model : null);

/** One problem with its action; with a wait it counts down, and then says that the wait is over. */
export class Alert {
  #root;
  #perform;
  #changed;
  /** @type {number | undefined} */
  #timer;
  /** The model that is waited for; null: another one would not help. @type {string | null} */
  #model = null;
  #isCalm = false;
  /** Seconds until something can be sent again. */
  wait = 0;

  /**
   * @param {HTMLElement} root
   * @param {(action: Action) => void} perform
   * @param {() => void} changed called when the wait begins or ends
   */
  constructor(root, perform, changed) {
    this.#root = root;
    this.#perform = perform;
    this.#changed = changed;
  }

  /** @param {Problem} problem */
  show({ text, wait, action, also, calm, until, away, model = null }) {
    if (away && document.documentElement.dataset.away !== undefined) return; // it is said already
    clearInterval(this.#timer);
    this.wait = wait ? Math.ceil(wait) : 0;
    this.#model = model;
    const countdown = el("span", { "aria-live": "off" });
    const words = text && `${text}${BETWEEN}`;
    /** @type {Element[]} */
    const parts = [icon(calm ? "check" : "circle-alert"), el("p", {}, words, countdown)];
    for (const one of [action, also]) {
      if (!one) continue;
      const onclick = () => {
        if (calm) this.clear(); // what it offered is done
        this.#perform(one);
      };
      parts.push(el("button", { type: "button", class: "button", onclick }, one.label));
    }
    if (this.wait) this.#count(countdown, text);
    else parts.push(iconButton("x", texts.composer.dismiss, { onclick: () => this.clear() }));
    this.#root.replaceChildren(...parts);
    this.#root.className = `problem ${calm ? "done" : text ? "bad" : "calm"}`;
    this.#root.hidden = false;
    this.#isCalm = Boolean(calm);
    if (away) document.addEventListener(AWAY_EVENT, () => parts[0].isConnected && this.clear(), { once: true });
    if (until) document.addEventListener(until, () => parts[0].isConnected && this.clear(), { once: true });
    this.#changed();
  }

  /**
   * Count down. Afterwards what was to be waited for is past: only that is said, where it was said why.
   *
   * @param {HTMLElement} countdown
   * @param {string} text
   */
  #count(countdown, text) {
    const end = Date.now() + this.wait * 1000;
    const show = () => {
      countdown.textContent = fill(texts.composer.wait, { time: span(this.wait) });
    };
    show();
    this.#timer = setInterval(() => {
      this.wait = Math.max(Math.ceil((end - Date.now()) / 1000), 0);
      if (this.wait) {
        show();
        return;
      }
      if (text) this.show({ text: texts.composer.wait_over, calm: true });
      else {
        this.clear();
        announce(texts.composer.wait_over);
      }
    }, 250);
  }

  /**
   * End a wait for a model that is not the one in use any more.
   *
   * @param {string | undefined} model the one in use
   */
  modelChanged(model) {
    if (!this.wait || !this.#model || this.#model === model) return;
    this.wait = 0;
    this.clear();
  }

  /** Remove what is no problem: what was done then is not the last thing any more. */
  clearCalm() {
    if (this.#isCalm) this.clear();
  }

  /** Remove the alert, unless it still counts down. */
  clear() {
    if (this.wait) return;
    clearInterval(this.#timer);
    this.#root.hidden = true;
    this.#root.replaceChildren();
    this.#changed();
  }
}
