// The documentation: one language and one model for all examples, copying, and running two of them.

import { announce, copyFrom, count, money, seconds } from "../shell/page.js";
import { AnswerStream, callJson } from "../shell/stream.js";

const YEAR_S = 365 * 24 * 3600;
const USED_MS = [0, 100, 300, 800, 2000];
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const part = (frame, name) => frame.querySelector(`[data-part="${name}"]`);
const choose = document.querySelector("#choose");

// Languages and models

/** Keep what was pressed where it is while examples above it change their heights. */
function inPlace(node, change) {
  const before = node.getBoundingClientRect().top;
  change();
  window.scrollBy({ top: node.getBoundingClientRect().top - before, behavior: "instant" });
}

for (const radio of all('.tabs input[type="radio"]')) {
  radio.addEventListener("change", () => {
    inPlace(radio, () => {
      for (const other of all(`.tabs input[value="${radio.value}"]`)) other.checked = true;
    });
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `roxy_language=${radio.value}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
  });
}

function useModel() {
  const seeing = choose.selectedOptions[0]?.hasAttribute("data-image");
  for (const mark of all(`[data-model="any"]${seeing ? ', [data-model="image"]' : ""}`))
    mark.textContent = choose.value;
  const address = new URL(location.href);
  address.searchParams.set("model", choose.value);
  history.replaceState(null, "", address);
}
choose.addEventListener("change", useModel);
choose.form.querySelector("button").hidden = true;

// Copying

for (const button of all("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copyFrom(button, document.getElementById(button.dataset.copy).textContent));
}
for (const button of all("[data-copy-example]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = all("pre", button.closest(".example")).find((pre) => pre.checkVisibility());
    copyFrom(button, shown.textContent);
  });
}
const copyPage = document.querySelector("[data-copy-page]");
copyPage.addEventListener("click", async (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch(`/docs.md?model=${encodeURIComponent(choose.value)}`).catch(() => null);
  if (answer?.ok) copyFrom(copyPage, await answer.text());
  else location.assign(copyPage.href);
});

// The table of contents follows the reading

const links = new Map();
for (const link of all(".toc a")) links.set(link.hash.slice(1), link);
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -80% 0px" },
);
for (const section of all(".topic")) seen.observe(section);

const fold = document.querySelector(".toc-fold");
fold.addEventListener("click", (event) => {
  if (event.target.closest("a")) fold.open = false;
});

/** Open what an address leads to. */
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// Running

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `docs-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Say in words what went wrong, and when to try again. */
function trouble(error) {
  const code = error.code ? ` (${error.status ? `${error.status} ` : ""}${error.code})` : "";
  const wait = error.retryAfter ? ` Try again in ${seconds(error.retryAfter)}.` : "";
  return `${error.message}${code}${wait}`;
}

function stateWords(name, { position, waiting, wait }) {
  switch (name) {
    case "queued":
      return `Position ${position} of ${waiting} in the queue${wait >= 1 ? `, about ${seconds(wait)}` : ""}`;
    case "connecting":
      return "Contacting the provider";
    case "retrying":
      return "The provider failed, trying another one";
    default:
      return "The connection was lost, coming back";
  }
}

/** Say what an answer used, as the server has counted it. */
async function usedWords(job) {
  for (const wait of USED_MS) {
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
    const told = await callJson(`jobs/${job}`).catch(() => null);
    if (!told) break;
    if (told.state !== "done" || told.duration_s === null) continue;
    const { usage, cost_microusd: cost, ttft_s: ttft, tokens_per_s: speed } = told;
    const words = [];
    if (usage) words.push(`${count(usage.prompt_tokens ?? 0)} tokens in, ${count(usage.completion_tokens ?? 0)} out`);
    if (cost !== null) words.push(money(cost));
    if (ttft !== null) words.push(`first text after ${seconds(ttft)}`);
    if (speed) words.push(`${Math.round(speed)} tokens/s`);
    return words.join(" · ");
  }
  return "";
}

class Run {
  constructor(frame) {
    this.frame = frame;
    this.words = part(frame, "words");
    this.answer = part(frame, "answer");
    this.run = part(frame, "run");
    this.stop = part(frame, "stop");
    frame.hidden = false;
    if (!this.run) return;
    this.run.addEventListener("click", () => this.start());
    this.stop.addEventListener("click", () => this.stream?.stop());
    addEventListener("pagehide", () => this.leave());
  }

  say(words, aloud = true) {
    this.words.textContent = words;
    if (aloud) announce(words);
  }

  busy(busy) {
    const focused = document.activeElement === (busy ? this.run : this.stop);
    this.run.hidden = busy;
    this.stop.hidden = !busy;
    if (focused) (busy ? this.stop : this.run).focus();
  }

  async start() {
    this.answer.hidden = false;
    this.answer.textContent = "";
    this.answer.classList.remove("failed");
    this.say("Sending");
    if (this.frame.dataset.run === "models") await this.list();
    else await this.chat();
  }

  async list() {
    try {
      const models = await callJson("models");
      this.answer.textContent = JSON.stringify(models, null, 2);
      this.say(`200: ${count(models.data.length)} models`);
    } catch (error) {
      this.fail(error);
    }
  }

  async chat() {
    this.busy(true);
    const request = { model: choose.value, ...JSON.parse(this.frame.dataset.request) };
    this.stream = new AnswerStream(newId(), this);
    try {
      await this.stream.follow(await this.stream.ask(request));
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  /** Nobody comes back to this page for its answer: stop it, with a call that outlives the page. */
  leave() {
    if (this.stop.hidden) return;
    const headers = { "X-Roxy-Xsrf": document.querySelector('meta[name="roxy-xsrf"]').content };
    fetch(`/api/v1/jobs/${this.stream.job}`, { method: "DELETE", keepalive: true, headers }).catch(() => {});
  }

  fail(error) {
    this.answer.classList.add("failed");
    this.answer.textContent = trouble(error);
    this.say(error.status ? `Refused with ${error.status}` : "Failed");
    this.busy(false);
  }

  // What AnswerStream tells

  state(name, details) {
    this.say(stateWords(name, details));
  }

  delta(text) {
    if (this.answer.textContent === "") this.say("Writing");
    const end = this.answer.scrollHeight - this.answer.scrollTop - this.answer.clientHeight < 40;
    this.answer.append(text);
    if (end) this.answer.scrollTop = this.answer.scrollHeight;
  }

  async end({ ending, error }) {
    this.busy(false);
    const { stream } = this;
    if (ending === "failed" || ending === "interrupted") {
      this.answer.append(`${this.answer.textContent ? "\n\n" : ""}${trouble(error)}`);
      this.answer.classList.add("failed");
    }
    const said = { done: "Complete", stopped: "Stopped", failed: "Failed", interrupted: "Interrupted" }[ending];
    this.say(said);
    const used = await usedWords(stream.job);
    if (used && stream === this.stream && this.stop.hidden) this.say(`${said} · ${used}`, false);
  }
}

for (const frame of all("[data-run]")) new Run(frame);
document.documentElement.dataset.ready = "";
