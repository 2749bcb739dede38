// The list of conversations: search, rename, pin, delete with undo, and what concerns them all.

import { html, render, useEffect, useRef, useState } from "../../../vendor/preact-htm.js";
import { el, iconPath } from "../../shell/page.js";
import { all, erase } from "../state/store.js";

const DAY_MS = 86_400_000;
const SNIPPET = 36;
const UNDO_MS = 20_000;

const Icon = ({ name }) => html`<svg class="icon" aria-hidden="true"><use href=${iconPath(name)} /></svg>`;

/** Sort conversations into the groups of the list. */
export function grouped(conversations, now = Date.now()) {
  const today = new Date(now).setHours(0, 0, 0, 0);
  const groups = [
    ["Pinned", []],
    ["Today", []],
    ["Last 7 days", []],
    ["Earlier", []],
  ];
  for (const one of [...conversations].sort((a, b) => b.updated - a.updated)) {
    const place = one.pinned ? 0 : one.updated >= today ? 1 : one.updated >= today - 6 * DAY_MS ? 2 : 3;
    groups[place][1].push(one);
  }
  return groups.filter(([, members]) => members.length);
}

function snippet(text, query) {
  const at = text.toLowerCase().indexOf(query);
  if (at < 0) return "";
  const from = Math.max(at - SNIPPET / 2, 0);
  return `${from ? "…" : ""}${text.slice(from, at + query.length + SNIPPET)}…`.replace(/\s+/g, " ");
}

function Rename({ one, acts, close }) {
  const box = useRef(null);
  useEffect(() => box.current.select(), []);
  const done = (keep) => {
    const title = box.current?.value.trim(); // closing takes the focus away, and calls this again
    close();
    if (keep && title && title !== one.title) acts.rename(one, title);
  };
  const pressed = (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter") done(true);
    if (event.key === "Escape") done(false);
  };
  // Not `value`: what is typed must outlive the list's next painting.
  return html`<input ref=${box} aria-label="New title" maxlength="120" defaultValue=${one.title} autofocus
    onKeyDown=${pressed} onBlur=${() => done(true)} />`;
}

function Entry({ one, current, running, found, acts, renaming, setRenaming, openMenu }) {
  if (renaming === one.id) {
    return html`<li class="entry"><${Rename} one=${one} acts=${acts} close=${() => setRenaming(null)} /></li>`;
  }
  const title = one.title || "New chat";
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    acts.open(one.id);
  };
  return html`<li class="entry">
    <a href=${`/c/${one.id}`} aria-current=${current ? "page" : null} title=${title} onClick=${go}>
      <span class="clip">${title}</span>
      ${found && html`<span class="clip found">${found}</span>`}
    </a>
    ${running && html`<span class="running" role="img" aria-label="Answering"></span>`}
    <button type="button" class="icon-button small" aria-haspopup="menu" aria-label=${`More for ${title}`}
      onClick=${(event) => openMenu(one, event.currentTarget)}><${Icon} name="ellipsis" /></button>
  </li>`;
}

function Menu({ menu, close, acts, rename }) {
  const box = useRef(null);
  useEffect(() => {
    if (!menu) return;
    const node = box.current;
    node.showPopover({ source: menu.button });
    const { bottom, top, right } = menu.button.getBoundingClientRect();
    const below = bottom + node.offsetHeight < innerHeight;
    node.style.top = `${below ? bottom + 2 : Math.max(top - node.offsetHeight - 2, 4)}px`;
    node.style.left = `${Math.max(Math.min(right - node.offsetWidth, innerWidth - node.offsetWidth - 4), 4)}px`;
    node.querySelector("button").focus();
  }, [menu]);
  if (!menu) return null;
  const { one } = menu;
  const item = (icon, label, act) =>
    html`<button type="button" role="menuitem" onClick=${() => {
      box.current.hidePopover();
      menu.button.focus();
      act();
    }}><${Icon} name=${icon} />${label}</button>`;
  const pressed = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Tab") box.current.hidePopover();
    if (!step) return;
    event.preventDefault();
    const items = [...box.current.querySelectorAll("button")];
    items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
  };
  return html`<div ref=${box} popover="auto" role="menu" class="menu" aria-label="Conversation"
    onKeyDown=${pressed} onToggle=${(event) => event.newState === "closed" && close()}>
    ${item("pencil", "Rename", () => rename(one.id))}
    ${item(one.pinned ? "pin-off" : "pin", one.pinned ? "Unpin" : "Pin", () => acts.pin(one))}
    ${item("download", "Export as JSON", () => acts.exportOne(one, "json"))}
    ${item("file-text", "Export as Markdown", () => acts.exportOne(one, "markdown"))}
    ${item("trash-2", "Delete", () => acts.remove(one))}
  </div>`;
}

function Sidebar({ state, acts }) {
  const [query, setQuery] = useState("");
  const [renaming, setRenaming] = useState(null);
  const [menu, setMenu] = useState(null);
  const wanted = query.trim().toLowerCase();
  const texts = state.texts;
  let shown = state.conversations;
  if (wanted) {
    shown = shown.filter(
      (one) => one.title.toLowerCase().includes(wanted) || texts?.get(one.id)?.lower.includes(wanted),
    );
  }
  const foundIn = (one) =>
    wanted && !one.title.toLowerCase().includes(wanted) ? snippet(texts.get(one.id).text, wanted) : "";
  const entry = (one) => html`<${Entry} key=${one.id} one=${one} current=${one.id === state.current}
    running=${state.running.has(one.id)} found=${foundIn(one)} acts=${acts}
    renaming=${renaming} setRenaming=${setRenaming} openMenu=${(about, button) => setMenu({ one: about, button })} />`;
  return html`
    <div class="side-top">
      <a class="button new" href="/" onClick=${(event) => {
        event.preventDefault();
        acts.open(null);
      }}>
        <${Icon} name="plus" />New chat</a>
      <div class="search"><${Icon} name="search" />
        <input type="search" aria-label="Search conversations" placeholder="Search" value=${query}
          onFocus=${acts.loadTexts} onInput=${(event) => setQuery(event.target.value)} /></div>
    </div>
    <nav class="list" aria-label="Conversations">
      ${wanted && !shown.length && html`<p class="quiet small">Nothing found for “${query.trim()}”.</p>`}
      ${!wanted && !shown.length && html`<p class="quiet small">No conversations yet. They are kept in this browser only.</p>`}
      ${grouped(shown).map(([name, members]) => html`<section key=${name}><h2>${name}</h2><ul>${members.map(entry)}</ul></section>`)}
    </nav>
    ${
      state.deleted &&
      html`<div class="undo" role="status">
      <span class="clip">Deleted “${state.deleted.title || "New chat"}”</span>
      <button type="button" class="button" onClick=${acts.undo}>Undo</button></div>`
    }
    <div class="side-end">
      <button type="button" class="icon-button" aria-label="Export all conversations" title="Export all conversations" onClick=${acts.exportAll}><${Icon} name="download" /></button>
      <button type="button" class="icon-button" aria-label="Import conversations" title="Import conversations" onClick=${acts.importFile}><${Icon} name="upload" /></button>
      <button type="button" class="icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (Ctrl+/)" onClick=${acts.help}><${Icon} name="keyboard" /></button>
    </div>
    <${Menu} menu=${menu} close=${() => setMenu(null)} acts=${acts} rename=${setRenaming} />`;
}

/**
 * All conversations, and what can be done with them. `acts`: `open(id)`, `leave()` what was deleted,
 * `opened()` giving the open conversation, `live(id)` giving one that is in use, `change(id, changes)`
 * to a record, `changed()` to tell other tabs, `load(import)`, `failed(text)`, `help()` and
 * `modelName(id)`.
 */
export class ConversationList {
  constructor(root, acts) {
    this._root = root;
    this._acts = acts;
    this._state = { conversations: [], current: null, running: new Set(), deleted: null, texts: null };
    this._undoing = null;
  }

  /** Read the list anew; what was deleted in an earlier visit goes for good. */
  async reload() {
    const found = await all("conversations");
    const gone = found.filter((one) => one.deleted && one.id !== this._state.deleted?.id);
    for (const one of gone) if (Date.now() - one.deleted > DAY_MS) erase(one.id);
    const known = found.map((one) => this._acts.live(one.id) ?? one);
    this.show({ conversations: known.filter((one) => !one.deleted) });
  }

  /** Show a changed state. */
  show(change = {}) {
    Object.assign(this._state, change);
    render(html`<${Sidebar} state=${{ ...this._state }} acts=${this} />`, this._root);
  }

  /** A conversation was begun or has changed. */
  touched(conversation) {
    const others = this._state.conversations.filter((one) => one.id !== conversation.id);
    this.show({ conversations: conversation.deleted ? others : [conversation, ...others], texts: null });
  }

  /** A conversation is no longer one. */
  dropped(conversation) {
    this.show({ conversations: this._state.conversations.filter((one) => one.id !== conversation.id) });
  }

  open(id) {
    this._acts.open(id);
  }

  help() {
    this._acts.help();
  }

  rename = (one, title) => this._acts.change(one.id, { title });
  pin = (one) => this._acts.change(one.id, { pinned: !one.pinned });

  /** Delete, and offer to take it back. */
  remove = async (one) => {
    await this._acts.change(one.id, { deleted: Date.now() });
    clearTimeout(this._undoing);
    this._undoing = setTimeout(() => this.show({ deleted: null }), UNDO_MS);
    this.show({ deleted: one });
    if (this._acts.opened()?.id === one.id) await this._acts.leave();
    this._root.querySelector(".undo button")?.focus();
  };

  undo = async () => {
    const one = this._state.deleted;
    clearTimeout(this._undoing);
    this.show({ deleted: null });
    if (one) await this._acts.change(one.id, { deleted: null });
    this._root.querySelector(`a[href="/c/${one?.id}"]`)?.focus();
  };

  loadTexts = async () => {
    if (this._state.texts) return;
    const { allTexts } = await this._acts.load(() => import("../state/transfer.js"));
    this.show({ texts: await allTexts() });
  };

  exportOne = async (one, style) => {
    const { asMarkdown, download, fileName, gather } = await this._acts.load(() => import("../state/transfer.js"));
    if (style === "markdown") {
      download(fileName(one.title, "md"), await asMarkdown(one, this._acts.modelName), "text/markdown");
    } else {
      download(fileName(one.title, "json"), JSON.stringify(await gather([one])), "application/json");
    }
  };

  exportAll = async () => {
    const { download, gather } = await this._acts.load(() => import("../state/transfer.js"));
    const day = new Date().toISOString().slice(0, 10);
    download(
      `roxy-conversations-${day}.json`,
      JSON.stringify(await gather(this._state.conversations)),
      "application/json",
    );
  };

  importFile = () => {
    const input = el("input", { type: "file", accept: ".json,application/json" });
    input.addEventListener("change", () => input.files.length && this.take(input.files[0]));
    input.click();
  };

  take = async (file) => {
    const { takeIn } = await this._acts.load(() => import("../state/intake.js"));
    try {
      await takeIn(await file.text());
    } catch (error) {
      this._acts.failed(`“${file.name}” was not imported. ${error.message}`);
    }
    this.show({ texts: null });
    await this.reload();
    this._acts.changed();
  };
}
