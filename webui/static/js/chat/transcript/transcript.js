// The turns of the open conversation on the page. Rows are plain DOM: while an answer streams only
// its open end is painted, at most once per frame, and nothing above it is touched.

import { copyFrom, count, el, icon, iconButton, money, plural, seconds } from "../../shell/page.js";

const NEAR_END_PX = 48;
const TICK_MS = 1000;
/** Answers shorter than this tell nothing of a speed. */
const SHORT_S = 0.2;
/** Between two paintings of new text: nobody reads faster, and the page stays free. */
const PAINT_MS = 50;
/** What may stand below a turn, in this order. */
const PARTS = ["usage", "versions", "acts"];

let markdown = null;

/** Load what makes markdown of text; the transcript needs it before its first row. */
export async function loadMarkdown() {
  markdown ??= await import("../markdown/blocks.js");
}

/** Keeps the end in view while text arrives, unless the reader has scrolled up. */
class Follower {
  constructor(scroller, content, button) {
    this._scroller = scroller;
    this._content = content;
    this._button = button;
    this._pinned = true;
    this._own = 0;
    scroller.addEventListener("scroll", () => this._scrolled(), { passive: true });
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this._unpin(), { passive: true });
    button.addEventListener("click", () => this.toEnd());
  }

  get _gap() {
    const { scrollHeight, scrollTop, clientHeight } = this._scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** Go to the end and stay there. */
  toEnd() {
    this._pinned = true;
    this._button.hidden = true;
    this._scroller.scrollTop = this._scroller.scrollHeight;
    this._own = this._scroller.scrollTop;
  }

  /** The content has grown. */
  grown() {
    if (this._pinned && this._content.childElementCount) this.toEnd();
    else this._offer();
  }

  _offer() {
    this._button.hidden = this._gap <= NEAR_END_PX || !this._content.childElementCount;
  }

  _unpin() {
    if (this._scroller.scrollHeight <= this._scroller.clientHeight) return;
    this._pinned = false;
    this._offer();
  }

  /** Judge by the position of our own writes: whoever moved up from there is reading. */
  _scrolled() {
    if (this._pinned && this._scroller.scrollTop < this._own - 2 && this._gap > NEAR_END_PX) this._unpin();
    else if (!this._pinned && this._gap <= 2) this.toEnd();
    else if (!this._pinned) this._offer();
  }
}

/** One turn on the page. */
class Row {
  constructor(message, view) {
    this.message = message;
    this.view = view;
    const mine = message.role === "user";
    this.root = el(
      "article",
      { class: `turn ${message.role}`, "aria-label": mine ? "You" : "Assistant", "data-id": message.id },
      el("h2", { class: "unseen" }, mine ? "You said" : "The answer"),
    );
    if (mine) this._buildQuestion();
    else this._buildAnswer();
    this._keys = {};
    this._parts = {};
    this.foot = el("footer");
    this.root.append(this.foot);
    this.refresh();
  }

  _buildQuestion() {
    const { message, view } = this;
    if (message.files?.length) {
      this.root.append(el("div", { class: "files" }, ...message.files.map((file) => view.acts.fileCard(file))));
    }
    if (message.text) this.root.append(el("div", { class: "said", dir: "auto" }, message.text));
  }

  _buildAnswer() {
    this.thoughts = null;
    this.body = el("div", { class: "md" });
    this.state = null;
    this.problem = null;
    this.blocks = new markdown.Blocks(this.body);
    this.root.append(this.body);
    if (this.message.state === "open") this._showState("Sending");
    else this.paint(true);
  }

  /** Show the text as it is now; the last time it is `final`. */
  paint(final = false) {
    const { message } = this;
    if (message.reasoning) this._paintThoughts(final);
    if (final) this.blocks.finish(message.text);
    else this.blocks.update(message.text);
  }

  _paintThoughts(final) {
    if (!this.thoughts) {
      this.thoughts = el("details", { class: "thoughts" }, el("summary"), el("div", { class: "thought", dir: "auto" }));
      this.body.before(this.thoughts);
    }
    const { thinkingMs, reasoning, text } = this.message;
    const over = final || Boolean(text);
    const lasted = thinkingMs ? ` for ${seconds(thinkingMs / 1000)}` : "";
    this.thoughts.firstChild.textContent = over ? `Thought${lasted}` : "Reasoning so far";
    const shown = this.thoughts.lastChild;
    const node = shown.firstChild ?? shown.appendChild(document.createTextNode(""));
    if (reasoning.length > node.data.length) node.appendData(reasoning.slice(node.data.length));
  }

  /** Show where the answer is, in words and with the time since. */
  showPhase(answer) {
    this.root.setAttribute("aria-busy", "true");
    this.root.dataset.phase = answer.phase.name;
    const since = (performance.now() - answer.phase.since) / 1000;
    const time = since >= 1 ? ` · ${seconds(Math.floor(since)).replace(".0", "")}` : "";
    const words = `${answer.words}${answer.pace}${time}`;
    if (this.state?.textContent !== words) this._showState(words);
  }

  /** Say in words where the answer is; "": it is over. A long conversation has no lines for nothing. */
  _showState(words) {
    if (!words) {
      this.state?.remove();
      this.state = null;
      return;
    }
    if (!this.state) {
      this.state = el("p", { class: "state" });
      this.body.after(this.state);
    }
    this.state.textContent = words;
  }

  /** Show everything around the text: buttons, versions, usage, what went wrong. */
  refresh() {
    const { message } = this;
    const open = message.state === "open";
    if (message.role === "assistant") {
      if (!open) {
        this.root.removeAttribute("aria-busy");
        delete this.root.dataset.phase;
        this._showState("");
      }
      this._showProblem();
    }
    this._part("usage", open ? null : JSON.stringify(message.stats ?? {}), () => this._usage());
    this._part("acts", open ? null : "", () => this._buttons());
    this.refreshVersions();
  }

  /** Show which of its versions this is; others may have come or gone. */
  refreshVersions() {
    const siblings = this.view.acts.siblings(this.message);
    const shown = this.message.state !== "open" && siblings.length > 1;
    const place = `${siblings.indexOf(this.message)}/${siblings.length}`;
    this._part("versions", shown ? place : null, () => this._versions(siblings));
  }

  /** Make a part of the foot anew if it differs: whoever is about to press a button keeps it. */
  _part(name, key, make) {
    if (this._keys[name] === key) return;
    this._keys[name] = key;
    this._parts[name]?.remove();
    const part = key === null ? null : make();
    this._parts[name] = part;
    const next = PARTS.slice(PARTS.indexOf(name) + 1)
      .map((other) => this._parts[other])
      .find(Boolean);
    if (part) this.foot.insertBefore(part, next ?? null);
  }

  _showProblem() {
    const { message, view } = this;
    const told = message.state === "open" ? null : view.acts.explain(message);
    const key = JSON.stringify(told);
    if (this._keys.problem === key) return;
    this._keys.problem = key;
    this.problem?.remove();
    this.problem = null;
    if (!told) return;
    const parts = [icon(told.icon ?? "circle-alert"), el("p", {}, told.text)];
    if (told.action) {
      parts.push(el("button", { type: "button", class: "button", "data-act": told.action.act }, told.action.label));
    }
    const role = told.tone === "calm" ? "note" : "alert";
    this.problem = el("div", { class: `problem ${told.tone ?? "bad"}`, role }, ...parts);
    this.foot.before(this.problem);
  }

  _usage() {
    const { message, view } = this;
    if (message.role !== "assistant") return null;
    const stats = message.stats;
    if (!stats) return el("span", { class: "usage" }, view.acts.modelName(message.model));
    const about = stats.estimated ? "≈ " : "";
    const short = [];
    const long = [];
    const tell = (brief, full) => {
      short.push(brief);
      long.push(full);
    };
    tell(view.acts.modelName(message.model), view.acts.modelName(message.model));
    if (stats.prompt !== null) tell(`${about}${count(stats.prompt)} in`, `${about}${plural(stats.prompt, "token")} in`);
    if (stats.completion !== null) tell(`${count(stats.completion)} out`, `${plural(stats.completion, "token")} out`);
    if (stats.cost !== null) tell(money(stats.cost), `cost ${money(stats.cost)}`);
    if (stats.ttft !== null) tell(seconds(stats.ttft), `first token after ${seconds(stats.ttft)}`);
    if (stats.speed && stats.duration - stats.ttft > SHORT_S)
      tell(`${Math.round(stats.speed)} t/s`, `${Math.round(stats.speed)} tokens per second`);
    const inside = [
      el("span", { "aria-hidden": "true" }, short.join(" · ")),
      el("span", { class: "unseen" }, long.join(", ")),
    ];
    if (!view.acts.isOwner) return el("span", { class: "usage", title: long.join(", ") }, ...inside);
    return el(
      "a",
      {
        class: "usage",
        href: `/requests/${encodeURIComponent(message.job)}`,
        title: `${long.join(", ")}. Opens the request's record.`,
      },
      ...inside,
    );
  }

  _versions(siblings) {
    const { message } = this;
    const at = siblings.indexOf(message) + 1;
    const previous = iconButton("chevron-left", "Previous version", { "data-act": "previous", disabled: at === 1 });
    const next = iconButton("chevron-right", "Next version", { "data-act": "next", disabled: at === siblings.length });
    return el(
      "span",
      { class: "versions", role: "group", "aria-label": "Versions" },
      previous,
      el("span", {}, `${at} / ${siblings.length}`),
      next,
    );
  }

  _buttons() {
    const mine = this.message.role === "user";
    const copy = iconButton("copy", mine ? "Copy message" : "Copy answer", { "data-act": "copy" });
    const other = mine
      ? iconButton("pencil", "Edit message", { "data-act": "edit" })
      : iconButton("refresh-cw", "Regenerate", { "data-act": "regenerate" });
    return el("span", { class: "acts" }, copy, other);
  }
}

/**
 * All rows. `acts` has what rows ask for: `act(name, message, button)`, `siblings(message)`,
 * `explain(message)`, `fileCard(file)`, `modelName(id)` and `isOwner`.
 */
export class Transcript {
  constructor(root, scroller, jump, acts) {
    this.root = root;
    this.acts = acts;
    this.rows = new Map();
    this._follower = new Follower(scroller, root, jump);
    this._dirty = new Set();
    this._live = new Map();
    this._waiting = false;
    this._painted = 0;
    root.addEventListener("click", (event) => this._clicked(event));
    new ResizeObserver(() => this._follower.grown()).observe(root);
  }

  /** Show these messages; rows that are there already stay. */
  show(path) {
    const wanted = new Set(path.map((message) => message.id));
    for (const [id, row] of this.rows) {
      if (wanted.has(id)) continue;
      row.root.remove();
      this.rows.delete(id);
      this._dirty.delete(row);
    }
    let before = null;
    for (const message of path) {
      let row = this.rows.get(message.id);
      if (row && row.message !== message) {
        row.root.remove();
        row = null;
      }
      if (!row) {
        row = new Row(message, this);
        this.rows.set(message.id, row);
        if (before) before.root.after(row.root);
        else this.root.prepend(row.root);
      } else {
        row.refreshVersions();
      }
      before = row;
    }
  }

  /** Make a row's surroundings anew, where it is shown. */
  refresh(message) {
    this.rows.get(message.id)?.refresh();
  }

  /** Go to the end. */
  toEnd() {
    this._follower.toEnd();
  }

  /** An answer is somewhere else now. */
  phase(answer) {
    const row = this.rows.get(answer.message.id);
    if (!row) return;
    row.showPhase(answer);
    if (this._live.has(row)) return;
    this._live.set(
      row,
      setInterval(() => row.showPhase(answer), TICK_MS),
    );
  }

  /** An answer has more text. */
  text(answer) {
    const row = this.rows.get(answer.message.id);
    if (!row) return;
    this._dirty.add(row);
    if (this._waiting) return;
    this._waiting = true;
    const early = this._painted + PAINT_MS - performance.now();
    if (early > 0) setTimeout(() => requestAnimationFrame(() => this._paint()), early);
    else requestAnimationFrame(() => this._paint());
  }

  /** An answer is complete. */
  end(answer) {
    const row = this.rows.get(answer.message.id);
    for (const [live, timer] of this._live) {
      if (live.message !== answer.message) continue;
      clearInterval(timer);
      this._live.delete(live);
    }
    if (!row) return;
    this._dirty.delete(row);
    row.paint(true);
    row.refresh();
  }

  /** Paint what has changed; the observer of the size then keeps the end in view. */
  _paint() {
    this._waiting = false;
    this._painted = performance.now();
    for (const row of this._dirty) row.paint();
    this._dirty.clear();
  }

  _clicked(event) {
    const button = event.target.closest("button");
    if (button?.dataset.image) {
      window.open(button.dataset.image, "_blank", "noopener,noreferrer");
      return;
    }
    if (!button?.dataset.act) return;
    const row = this.rows.get(button.closest("article").dataset.id);
    if (button.dataset.act === "copy") copyFrom(button, row.message.text);
    else this.acts.act(button.dataset.act, row.message, row);
  }
}
