// What is left of the visitor's limits and of the model's context, in words.

import { count, fill, language, money, pluralText, short, size, texts } from "../shell/page.js";
import { bytesOfTurns, estimateTokens, imagesLeftOut, roundTokens, tokensOfFiles } from "./state/attachments.js";

/** @import { Plural } from "../shell/catalogue.js" */
/** @import { Chat } from "./state/chat.js" */
/** @import { Action, FileRecord, Model, Quota, Visitor } from "./state/types.js" */

const WARN_AT = 0.8;

const LOW = 0.2;

/**
 * Return what is left of a visitor's limits, and whether it is little. A limit that comes back within a
 * minute is shown when it is the only one, or when little of it is left.
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
  if (minute && (!parts.length || share(minute) < LOW)) {
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
  const needed = current.usedTokens() + tokens;
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
  if (left && tokens) return { text: pluralText(texts.composer.images_left_out, left) };
  if (!tokens) {
    if (!current.started) return { text: "" };
    const { text: standing, low } = standingWords(chat.visitor);
    return { warn: low, text: asSentence(standing) };
  }
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

/** @param {Model} model */
export const takesImages = (model) => model.modalities.input.includes("image");

/**
 * Return why this visitor cannot send, or not these files to this model; null: they can.
 *
 * @param {Chat} chat
 * @param {FileRecord[]} files
 * @returns {{ text: string, action?: Action } | null}
 */
export function whyBlocked(chat, files) {
  const { current, ended, model, visitor } = chat;
  if (ended) return ended;
  if (visitor.kind === "nobody") {
    return {
      text: current?.started ? texts.composer.guests_off : "", // a new chat says it above the box
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
