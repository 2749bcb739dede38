// The owner's page of running requests: fetches itself again while it is visible, and patches what changed.
//
// Nodes stay where they are: a selection and the focus survive. No connection is kept open.

import { ApiError, call, Unreachable } from "../shell/api.js";
import { announce, part, texts } from "../shell/page.js";

const EVERY_MS = 1500;
const GONE_MS = 10_000;
const live = part("#live", HTMLElement);
const pauseButton = part("#pause", HTMLButtonElement);
const refreshLink = part("#refresh", HTMLElement);
const problem = part("#trouble", HTMLElement);

/**
 * Make `old` equal to `fresh`, a node of another document, changing as little as possible.
 *
 * @param {Node} old
 * @param {Node} fresh
 */
export function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (!(old instanceof Element && fresh instanceof Element)) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patchChildren(old, fresh);
}

/**
 * Patch the children: one with an id is matched by it wherever it is, others by their place.
 *
 * @param {Element} old
 * @param {Element} fresh
 */
function patchChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) {
    if (child.id && !wanted.has(child.id)) child.remove();
  }
  /** @type {Map<string, ChildNode>} */
  const kept = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  const drop = () => {
    const dropped = at;
    at = at?.nextSibling ?? null;
    dropped?.remove();
  };
  for (const next of fresh.childNodes) {
    const id = idOf(next);
    const same = id ? kept.get(id) : isLike(at, next) ? at : null;
    if (!same) {
      old.insertBefore(document.importNode(next, true), at);
      continue;
    }
    while (at !== same && at && !idOf(at)) drop(); // a moved node loses the focus and the selection
    if (at === same) at = at.nextSibling;
    else old.insertBefore(same, at);
    patch(same, next);
  }
  while (at) drop();
}

/** @param {Node} node */
const idOf = (node) => (node instanceof Element ? node.id : "");

/**
 * @param {Node | null} node
 * @param {Node} other
 */
const isLike = (node, other) => node !== null && !idOf(node) && node.nodeName === other.nodeName;

/**
 * Fetch a page as a document; null: the server cannot be reached, or cannot answer now.
 *
 * @param {string} path
 * @returns {Promise<Document | null>}
 */
function fetchPage(path) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.responseType = "document";
    request.timeout = GONE_MS;
    request.onloadend = () => resolve(request.status < 500 ? request.response : null);
    request.open("GET", path);
    request.send();
  });
}

/** Fetches the page again and again while it is visible and not paused. */
class LivePage {
  #paused = false;
  /** @type {number | undefined} */
  #timer;
  #fetching = false;

  constructor() {
    pauseButton.hidden = false;
    refreshLink.hidden = true;
    pauseButton.addEventListener("click", () => this.#pause(!this.#paused));
    refreshLink.addEventListener("click", (event) => {
      event.preventDefault();
      this.#refresh();
    });
    live.addEventListener("submit", (event) => this.#stop(event));
    document.addEventListener("visibilitychange", () => this.#schedule(0));
    this.#schedule(EVERY_MS);
  }

  /** @param {boolean} paused */
  #pause(paused) {
    this.#paused = paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    refreshLink.hidden = !paused;
    this.#schedule(0);
  }

  /** @param {number} ms */
  #schedule(ms) {
    clearTimeout(this.#timer);
    if (!this.#paused && !document.hidden) this.#timer = setTimeout(() => this.#refresh(), ms);
  }

  async #refresh() {
    if (this.#fetching) return;
    this.#fetching = true;
    const page = await fetchPage(location.pathname);
    this.#fetching = false;
    const fresh = page?.getElementById("live");
    if (fresh) this.#show(fresh);
    if (fresh) showProblem("");
    else showProblem(page ? texts.live.session_ended : texts.live.no_answer);
    if (fresh || !page) this.#schedule(EVERY_MS);
  }

  /** @param {HTMLElement} fresh */
  #show(fresh) {
    const focused = document.activeElement;
    const id = focused && live.contains(focused) ? focused.id : "";
    const before = live.dataset.idle;
    patch(live, fresh);
    // Never the next button: a second press of the key would stop another request.
    if (id && document.activeElement !== focused) {
      (document.getElementById(id) ?? part("#requests-title", HTMLElement)).focus({ preventScroll: true });
    }
    if (live.dataset.idle === before) return;
    announce(live.dataset.idle === "yes" ? texts.live.none_active : texts.live.some_active);
  }

  /** @param {SubmitEvent} event */
  async #stop(event) {
    event.preventDefault();
    const form = event.target instanceof HTMLFormElement ? event.target : null;
    const button = form?.querySelector("button");
    if (!button || button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    const id = form?.closest("tr")?.id.slice("job-".length) ?? "";
    try {
      await call(`jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
      announce(texts.live.stopped);
    } catch (error) {
      if (error instanceof Unreachable) showProblem(texts.live.no_answer);
      else if (error instanceof ApiError && error.status === 404) announce(texts.live.stopped);
      else showProblem(texts.live.not_stopped);
    }
    button.removeAttribute("aria-disabled");
    await this.#refresh();
  }
}

/** @param {string} text */
function showProblem(text) {
  if (problem.textContent === text) return;
  problem.textContent = text;
  problem.hidden = !text;
  if (text) announce(text);
}

new LivePage();
