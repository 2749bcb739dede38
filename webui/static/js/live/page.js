// The owner's page of what runs now: reads itself again while somebody looks, and puts in what changed.
//
// Nodes stay where they are: a selection and the focus survive. A connection is never held open.

import { announce } from "../shell/page.js";

const EVERY_MS = 1500;
const GONE_MS = 10_000;
const byId = (id) => document.getElementById(id);

/** Make `old` equal to `fresh`, a node of another document, changing as little as possible. */
export function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
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

/** Children with an id are themselves wherever they stand; others are known by their place. */
function patchChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) {
    if (child.id && !wanted.has(child.id)) child.remove();
  }
  const kept = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  const drop = () => {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  };
  for (const next of fresh.childNodes) {
    const same = next.id ? kept.get(next.id) : isLike(at, next) && at;
    if (!same) {
      old.insertBefore(document.importNode(next, true), at);
      continue;
    }
    while (at !== same && at && !at.id) drop(); // what is moved loses the focus and the selection
    if (at === same) at = at.nextSibling;
    else old.insertBefore(same, at);
    patch(same, next);
  }
  while (at) drop();
}

const isLike = (node, other) => node && !node.id && node.nodeName === other.nodeName;

/** Fetch a page as a document; null: the server cannot be reached, or cannot answer now. */
function fetchPage(path) {
  return new Promise((resolve) => {
    const asked = new XMLHttpRequest();
    asked.responseType = "document";
    asked.timeout = GONE_MS;
    asked.onloadend = () => resolve(asked.status < 500 ? asked.response : null);
    asked.open("GET", path);
    asked.send();
  });
}

class Live {
  constructor() {
    this.paused = false;
    this.timer = null;
    this.asking = false;
    byId("pause").hidden = false;
    byId("refresh").hidden = true;
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
    byId("refresh").addEventListener("click", (event) => {
      event.preventDefault();
      this.refresh();
    });
    byId("live").addEventListener("submit", (event) => this.stop(event));
    document.addEventListener("visibilitychange", () => this.wait(0));
    this.wait(EVERY_MS);
  }

  pause(paused) {
    this.paused = paused;
    byId("pause").setAttribute("aria-pressed", paused);
    byId("refresh").hidden = !paused;
    this.wait(0);
  }

  /** Look again after some time, if anybody looks at all. */
  wait(ms) {
    clearTimeout(this.timer);
    if (!this.paused && !document.hidden) this.timer = setTimeout(() => this.refresh(), ms);
  }

  async refresh() {
    if (this.asking) return;
    this.asking = true;
    const page = await fetchPage(location.pathname);
    this.asking = false;
    const fresh = page?.getElementById("live");
    if (fresh) this.show(fresh);
    this.tell(
      fresh
        ? ""
        : page
          ? "Your session has ended. Reload the page to sign in."
          : "The gateway does not answer. Trying again.",
    );
    if (fresh || !page) this.wait(EVERY_MS);
  }

  show(fresh) {
    const live = byId("live");
    const focused = document.activeElement;
    const id = live.contains(focused) ? focused.id : "";
    const before = live.dataset.idle;
    patch(live, fresh);
    // Never the next button: a second press of the key would stop somebody else's request.
    if (id && document.activeElement !== focused) (byId(id) ?? byId("requests-title")).focus({ preventScroll: true });
    if (live.dataset.idle !== before)
      announce(live.dataset.idle === "yes" ? "Nothing runs any more" : "Requests are running");
  }

  tell(trouble) {
    if (byId("trouble").textContent === trouble) return;
    byId("trouble").textContent = trouble;
    byId("trouble").hidden = !trouble;
    if (trouble) announce(trouble);
  }

  async stop(event) {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button");
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    const id = form.closest("tr").id.slice("job-".length);
    const headers = { "X-Roxy-Xsrf": document.querySelector('meta[name="roxy-xsrf"]').content };
    try {
      const answer = await fetch(`/api/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE", headers });
      if (answer.ok || answer.status === 404) announce("Stopped");
      else this.tell("The request could not be stopped.");
    } catch {
      this.tell("The gateway does not answer. Trying again.");
    }
    button.removeAttribute("aria-disabled");
    await this.refresh();
  }
}

new Live();
