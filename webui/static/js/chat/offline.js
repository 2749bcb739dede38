// Being offline: it is said while it lasts, and taken back when it ends.

import { UNREACHABLE_EVENT } from "../shell/api.js";
import { AWAY_EVENT, announce, el, icon, REACHABLE_EVENT, texts } from "../shell/page.js";

const LOOK_MS = 2500;

/** True if the server answers, whatever it answers. */
async function isReachable() {
  try {
    await (await fetch("/healthz", { cache: "no-store" })).text();
    return true;
  } catch {
    return false;
  }
}

/**
 * Show above `below` while the server cannot be reached.
 *
 * @param {HTMLElement} below
 */
export function sayWhenOffline(below) {
  /** @type {HTMLElement | null} */
  let note = null;
  /** @type {number | undefined} */
  let timer;
  const show = () => {
    const text = navigator.onLine ? texts.chat.away : texts.chat.offline;
    if (note?.textContent === text) return;
    if (!note) announce(text);
    note?.remove();
    document.documentElement.dataset.away = "";
    document.dispatchEvent(new Event(AWAY_EVENT));
    note = el("div", { class: "problem warn", role: "note" }, icon("triangle-alert"), el("p", {}, text));
    below.before(note);
    timer ??= setInterval(look, LOOK_MS);
  };
  const look = async () => {
    if (!(await isReachable())) {
      show();
      return;
    }
    clearInterval(timer);
    timer = undefined;
    if (!note) return; // a single call had no answer: it is tried again in its own time
    announce(texts.chat.online);
    note.remove();
    note = null;
    delete document.documentElement.dataset.away;
    document.dispatchEvent(new Event(REACHABLE_EVENT));
  };
  // Whether the device has a network says little: a gateway on the same machine answers without one.
  addEventListener("offline", () => {
    look();
    setTimeout(look, LOOK_MS); // the first one may just have come through
  });
  addEventListener("online", look);
  document.addEventListener(UNREACHABLE_EVENT, look);
  if (!navigator.onLine) look();
}
