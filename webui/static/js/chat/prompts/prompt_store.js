// The prompts of a person: each is a setting of its own, so that two devices that add one both keep theirs.

import { count, fill, language, texts } from "../../shell/page.js";
import { newId, secondName } from "../state/records.js";
import { all, putAll } from "../state/store.js";

/** @import { Database } from "../state/store.js" */
/** @import { SettingRecord } from "../state/types.js" */

/** @typedef {{ id: string, name: string, text: string }} Prompt */

/** How the ids of the settings begin. The server knows it, too (server/history/steps/settings_steps.py). */
export const PREFIX = "prompt-";
export const MAX_NAME_CHARS = 60;
const MAX_TEXT_CHARS = 8000;
const MAX_PROMPTS = 100;
/** In UTF-8. The server takes 256 KiB of settings, and there are others. */
const MAX_PROMPTS_BYTES = 192 * 1024;

/** A prompt cannot be saved; the message says why. */
export class PromptRefused extends Error {}

/**
 * Return the prompts of the visitor by name.
 *
 * @returns {Promise<Prompt[]>}
 */
export async function ownPrompts() {
  return promptsIn(await all("settings"));
}

/**
 * Return the prompts among settings by name.
 *
 * @param {SettingRecord[]} settings
 * @returns {Prompt[]}
 */
function promptsIn(settings) {
  return settings
    .flatMap(({ id, value }) => {
      const { name, text } = value ?? {};
      const isPrompt = id.startsWith(PREFIX) && typeof name === "string" && typeof text === "string";
      return isPrompt ? [{ id, name, text }] : [];
    })
    .sort((a, b) => a.name.localeCompare(b.name, language) || (a.id < b.id ? -1 : 1));
}

/**
 * Check prompts together with those there are. Raises PromptRefused.
 *
 * @param {Prompt[]} added
 */
async function check(added) {
  for (const { name, text } of added) {
    if (!name) throw new PromptRefused(texts.prompts.no_name);
    if (!text.trim()) throw new PromptRefused(texts.prompts.no_text);
    if (text.length > MAX_TEXT_CHARS) {
      const words = { count: count(text.length), most: count(MAX_TEXT_CHARS) };
      throw new PromptRefused(fill(texts.prompts.long_text, words));
    }
  }
  const ids = new Set(added.map(({ id }) => id));
  const others = (await ownPrompts()).filter(({ id }) => !ids.has(id));
  if (others.length + added.length > MAX_PROMPTS)
    throw new PromptRefused(fill(texts.prompts.too_many, { count: count(others.length) }));
  const bytes = new TextEncoder().encode(JSON.stringify([...others, ...added])).length;
  if (bytes > MAX_PROMPTS_BYTES) throw new PromptRefused(texts.prompts.too_large);
}

/** @param {Prompt[]} prompts */
async function put(prompts) {
  try {
    await putAll({ settings: prompts.map(({ id, name, text }) => ({ id, value: { name, text } })) });
  } catch {
    throw new PromptRefused(texts.prompts.not_stored);
  }
}

/**
 * Save a prompt: a new one without an id, or where the stored one is not the one that was `seen` any more. Raises
 * PromptRefused.
 *
 * @param {{ id?: string, name: string, text: string }} prompt
 * @param {{ name: string, text: string }} [seen]
 */
export async function savePrompt({ id = newId(PREFIX), name, text }, seen) {
  const prompt = { id, name: name.replace(/\s+/g, " ").trim().slice(0, MAX_NAME_CHARS), text };
  const stored = seen && (await ownPrompts()).find((one) => one.id === id);
  if (stored && (stored.name !== seen.name || stored.text !== seen.text)) {
    prompt.id = newId(PREFIX);
    if (prompt.name === stored.name) prompt.name = secondName(prompt.name);
  }
  await check([prompt]);
  await put([prompt]);
  return prompt;
}

/**
 * Save prompts of an export that are not here yet. Raises PromptRefused, and saves none then.
 *
 * @param {unknown} given
 */
export async function importPrompts(given) {
  if (!Array.isArray(given)) return;
  const here = new Set((await ownPrompts()).map(({ name, text }) => JSON.stringify([name, text])));
  /** @type {Prompt[]} */
  const added = [];
  for (const one of given) {
    const { name, text } = Object(one);
    if (typeof name !== "string" || typeof text !== "string") continue;
    const prompt = { id: newId(PREFIX), name: name.trim().slice(0, MAX_NAME_CHARS), text };
    const key = JSON.stringify([prompt.name, text]);
    if (here.has(key)) continue;
    here.add(key);
    added.push(prompt);
  }
  if (!added.length) return;
  await check(added);
  await put(added);
}

/**
 * Take over the prompts of another database, where they are removed. Those that find no room stay there.
 *
 * @param {Database} from
 */
export async function takePrompts(from) {
  const prompts = promptsIn(await from.all("settings"));
  try {
    await importPrompts(prompts);
  } catch (error) {
    if (error instanceof PromptRefused) return;
    throw error;
  }
  await from.remove(
    "settings",
    prompts.map(({ id }) => id),
  );
}

/**
 * Delete prompts. Their ids stay, so that other devices learn of it.
 *
 * @param {string[]} ids
 */
export const removePrompts = (ids) => putAll({ settings: ids.map((id) => ({ id, value: null })) });
