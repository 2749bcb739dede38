// Fields that complete the names of keys: the keys that match are requested as one types.
//
// The server finds the key of the text that is sent, so the fields also work without this script.

import { callJson, isAbort } from "./api.js";
import { el } from "./page.js";

const AFTER_MS = 150;
const MAX_SUGGESTIONS = 20;
const BETWEEN = " · ";

/** @param {HTMLInputElement} field */
function complete(field) {
  const list = field.list;
  if (!list) return;
  const always = [...list.options].map((option) => option.value);
  let timer = 0;
  let running = new AbortController();

  async function request() {
    running.abort();
    running = new AbortController();
    const text = field.value.trim();
    // A text that was completed is done: searching it again would open the list again.
    if (!text || [...(list?.options ?? [])].some((option) => option.value === field.value)) return;
    try {
      const path = `keys?${new URLSearchParams({ search: text, limit: String(MAX_SUGGESTIONS) })}`;
      const page = await callJson(path, { signal: running.signal });
      const names = page.data.map(
        /** @param {{ name: string, redacted: string }} key */ (key) => key.name + BETWEEN + key.redacted,
      );
      list?.replaceChildren(...[...always, ...names].map((value) => el("option", { value })));
    } catch (error) {
      if (!isAbort(error)) list?.replaceChildren(); // no completions: the server finds the text all the same
    }
  }

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(request, AFTER_MS);
  });
}

for (const field of document.querySelectorAll("[data-complete=keys]"))
  if (field instanceof HTMLInputElement) complete(field);
