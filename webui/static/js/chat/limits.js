// What is left of the visitor's limits and of the model's context, in words.

import { count, money, plural, short } from "../shell/page.js";

/** @import { Chat } from "./state/chat.js" */
/** @import { Action, FileRecord, Model, Visitor } from "./state/types.js" */

const WARN_AT = 0.8;

/** @param {Visitor} visitor */
function remainingWords({ remaining }) {
  const { requests, requests_day: day, budget } = remaining ?? {};
  const parts = [];
  if (requests) parts.push(`${count(requests.remaining)} of ${plural(requests.limit, "message")} left this minute`);
  if (day) parts.push(`${count(day.remaining)} of ${count(day.limit)} today`);
  if (budget) {
    const left = Math.max(budget.limit_microusd - budget.spent_microusd, 0);
    parts.push(`${money(left)} of ${money(budget.limit_microusd)} left`);
  }
  return parts.join(", ");
}

/**
 * Return who the visitor is and what is left to them.
 *
 * @param {Visitor} visitor
 */
export function visitorWords(visitor) {
  if (visitor.kind === "owner") return "Signed in as the owner, without limits.";
  const who = visitor.kind === "key" ? visitor.name : "Guest";
  const remaining = remainingWords(visitor);
  return remaining ? `${who}: ${remaining}.` : `${who}, without limits.`;
}

/**
 * Return what the box says while `typed` tokens are in it: how full the context is, or what is left.
 *
 * @param {Chat} chat
 * @param {number} typed
 * @returns {{ warn?: boolean, text: string }}
 */
export function hintWords(chat, typed) {
  const { current, model } = chat;
  if (!current || !model) return { text: "" };
  const part = (current.usedTokens() + typed) / model.context_window;
  if (part > 1) {
    return { warn: true, text: `Longer than the context of ${model.name} (${short(model.context_window)} tokens).` };
  }
  if (part > WARN_AT) return { warn: true, text: `The context of ${model.name} is ${Math.round(part * 100)} % full.` };
  if (typed) return { text: `≈ ${plural(typed, "token")}` };
  return { text: current.started ? remainingWords(chat.visitor) : "" };
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
  if (!files.some((file) => file.kind === "image") || takesImages(model)) return null;
  const other = [...chat.models.values()].find((one) => one.available && takesImages(one));
  const text = `${model.name} does not accept images.`;
  return other
    ? { text, action: { name: "switchModel", label: `Switch to ${other.name}`, model: other.id } }
    : { text };
}
