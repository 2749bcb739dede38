// What is left of the visitor's limits and of the model's context, in words.

import { count, money, plural, short, size } from "../shell/page.js";
import { bytesOfTurns, estimateTokens, imagesLeftOut, roundTokens, tokensOfFiles } from "./state/attachments.js";

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
  /** @param {Quota} quota */
  const messages = ({ remaining: left, limit }) => `${count(left)} of ${plural(limit, "message")} left`;
  /** @param {Quota} quota */
  const share = ({ remaining: left, limit }) => left / limit;
  if (day) parts.push({ text: `${messages(day)} today`, share: share(day) });
  if (budget) {
    const left = Math.max(budget.limit_microusd - budget.spent_microusd, 0);
    parts.push({
      text: `${money(left)} of ${money(budget.limit_microusd)} left`,
      share: left / budget.limit_microusd,
    });
  }
  if (minute && (!parts.length || share(minute) < LOW)) {
    parts.push({ text: `${messages(minute)} this minute`, share: share(minute) });
  }
  return { text: parts.map((one) => one.text).join(", "), low: parts.some((one) => one.share < LOW) };
}

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
    const words = `Longer than the context of ${model.name} (${short(model.context_window)} tokens).`;
    return { warn: true, text: words, action: largerModel(chat, needed, files) };
  }
  if (part > WARN_AT) return { warn: true, text: `The context of ${model.name} is ${Math.round(part * 100)} % full.` };
  const turns = [...current.path, { text, files }];
  const bytes = bytesOfTurns(turns);
  if (bytes > WARN_AT * chat.maxBodyBytes) {
    return {
      warn: true,
      text: `This chat sends ${size(bytes)} with each message. The limit is ${size(chat.maxBodyBytes)}.`,
    };
  }
  const left = imagesLeftOut(turns).size;
  if (left && tokens) {
    const which = left === 1 ? "The oldest image is" : `The ${left} oldest images are`;
    return { text: `${which} no longer sent. Attach again what you want to ask about.` };
  }
  if (!tokens) {
    if (!current.started) return { text: "" };
    const { text: standing, low } = standingWords(chat.visitor);
    return { warn: low, text: standing };
  }
  const words = `≈ ${plural(roundTokens(tokens), "token")}`;
  return { text: files.length ? `${words}, ${short(model.context_window - needed)} left in the context` : words };
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
  return other && { name: "switchModel", label: `Switch to ${other.name}`, model: other.id };
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
      text: "Guest access is turned off. Sign in with a key to chat.",
      action: { name: "signIn", label: "Sign in" },
    };
  }
  if (!current) return null;
  if (!model) {
    const text = `${current.record.model || "No model"} is not available here.`;
    return { text, action: { name: "model", label: "Choose a model" } };
  }
  const bytes = files.length ? bytesOfTurns([...current.path, { text: "", files }]) : 0;
  if (bytes > chat.maxBodyBytes) {
    const sums = `With these files this chat has ${size(bytes)}. The limit is ${size(chat.maxBodyBytes)}`;
    const text = `${sums}: remove a file`;
    if (!current.started) return { text: `${text}.` };
    return { text: `${text}, or start a new chat with them.`, action: { name: "new", label: "Start a new chat" } };
  }
  if (!files.some((file) => file.kind === "image") || takesImages(model)) return null;
  const other = [...chat.models.values()].find((one) => one.available && takesImages(one));
  const text = `${model.name} does not accept images.`;
  return other
    ? { text, action: { name: "switchModel", label: `Switch to ${other.name}`, model: other.id } }
    : { text };
}
