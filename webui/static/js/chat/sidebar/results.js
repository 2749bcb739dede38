// What a search has found, as components: conversations, each with the passages in it.

import { html } from "../../../vendor/preact-htm.js";
import { pluralText, texts } from "../../shell/page.js";

/** @import { ConversationRecord } from "../state/types.js" */
/** @import { Found, Hit } from "./search.js" */

const MOST_PASSAGES = 3;

/**
 * What is shown of one conversation.
 *
 * @typedef {{ id: string, title: string, passages: Hit[] }} Result
 */

/**
 * Return the conversations that were found, in the order of their hits. Until the search has ended those whose
 * titles have the words.
 *
 * @param {ConversationRecord[]} conversations
 * @param {string} wanted
 * @param {Found | null} found
 * @returns {Result[]}
 */
export function resultsOf(conversations, wanted, found) {
  const known = new Map(conversations.map((one) => [one.id, one]));
  /** @type {Map<string, Result>} */
  const results = new Map();
  const words = wanted.toLowerCase().split(/\s+/);
  const isComplete = found?.query === wanted && !found.problem;
  const titled = conversations.filter(({ title }) => words.every((word) => title.toLowerCase().includes(word)));
  if (!isComplete)
    for (const { id, title } of titled.sort((a, b) => b.updated - a.updated))
      results.set(id, { id, title, passages: [] });
  for (const hit of isComplete ? found.hits : []) {
    const one = known.get(hit.conversation);
    if (!one) continue; // it was deleted since
    const result = results.get(one.id) ?? { id: one.id, title: one.title, passages: [] };
    results.set(one.id, result);
    // A question that is the title says nothing new.
    if (hit.where !== "title" && hit.excerpt !== one.title) result.passages.push(hit);
  }
  return [...results.values()];
}

/** @param {{ hit: Hit, open: (hit: Hit) => void }} props */
export function Passage({ hit, open }) {
  const { excerpt, match, conversation, where } = hit;
  const [from, to] = match;
  /** @param {MouseEvent} event */
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(hit);
  };
  const around =
    where === "system" ? texts.sidebar.in_system_prompt : where === "file" ? texts.sidebar.in_file : "{text}";
  const [before, after] = around.split("{text}");
  return html`<a class="passage clip" href=${`/c/${conversation}`} onClick=${go}
    >${before}${excerpt.slice(0, from)}<mark>${excerpt.slice(from, to)}</mark>${excerpt.slice(to)}${after}</a>`;
}

/** @param {{ result: Result, open: (hit: Hit) => void }} props */
export function Passages({ result, open }) {
  const more = result.passages.length - MOST_PASSAGES;
  return html`${result.passages
    .slice(0, MOST_PASSAGES)
    .map((hit) => html`<${Passage} key=${hit.message ?? hit.where} hit=${hit} open=${open} />`)}
    ${more > 0 && html`<span class="passage quiet">${pluralText(texts.sidebar.more_passages, more)}</span>`}`;
}
