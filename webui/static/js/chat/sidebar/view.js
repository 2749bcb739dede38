// The list of conversations as components: search, entries in groups, the menu of an entry, undo.

import { html, useEffect, useRef, useState } from "../../../vendor/preact-htm.js";
import { iconPath } from "../../shell/page.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { ConversationList } from "./list.js" */

/**
 * What the list shows. `texts`: the words of each conversation for the search, null before it is used.
 *
 * @typedef {object} ListState
 * @property {ConversationRecord[]} conversations
 * @property {string | null} current
 * @property {Set<string>} answering
 * @property {ConversationRecord | null} deleted
 * @property {Map<string, { text: string, lower: string }> | null} texts
 */

const DAY_MS = 86_400_000;
const SNIPPET_LETTERS = 36;

/** @param {{ name: string }} props */
const Icon = ({ name }) => html`<svg class="icon" aria-hidden="true"><use href=${iconPath(name)} /></svg>`;

/** @param {{ icon: string, label: string, title?: string, onClick: () => void }} props */
const IconButton = ({ icon, label, title, onClick }) =>
  html`<button type="button" class="icon-button" aria-label=${label} title=${title ?? label} onClick=${onClick}>
    <${Icon} name=${icon} /></button>`;

/**
 * Sort conversations into the groups of the list, the newest first.
 *
 * @param {ConversationRecord[]} conversations
 */
function grouped(conversations) {
  const today = new Date().setHours(0, 0, 0, 0);
  /** @type {[string, ConversationRecord[]][]} */
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

/**
 * Return the passage of a text around what was searched for.
 *
 * @param {string} text
 * @param {string} query
 */
function snippet(text, query) {
  const at = text.toLowerCase().indexOf(query);
  if (at < 0) return "";
  const from = Math.max(at - SNIPPET_LETTERS / 2, 0);
  return `${from ? "…" : ""}${text.slice(from, at + query.length + SNIPPET_LETTERS)}…`.replace(/\s+/g, " ");
}

/** @param {{ one: ConversationRecord, list: ConversationList, close: () => void }} props */
function Rename({ one, list, close }) {
  /** @type {Ref<HTMLInputElement | null>} */
  const box = useRef(null);
  useEffect(() => box.current?.select(), []);
  /** @param {boolean} save */
  const done = (save) => {
    const title = box.current?.value.trim(); // closing takes the focus away, and calls this again
    close();
    if (save && title && title !== one.title) list.rename(one, title);
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter") done(true);
    if (event.key === "Escape") done(false);
  };
  // Not `value`: what is typed must survive the next rendering of the list.
  return html`<input ref=${box} aria-label="New title" maxlength="120" defaultValue=${one.title} autofocus
    onKeyDown=${pressed} onBlur=${() => done(true)} />`;
}

/** @typedef {{ one: ConversationRecord, button: HTMLElement }} OpenMenu */

/**
 * @param {object} props
 * @param {ConversationRecord} props.one
 * @param {boolean} props.isCurrent
 * @param {boolean} props.isAnswering
 * @param {string} props.found
 * @param {ConversationList} props.list
 * @param {(menu: OpenMenu) => void} props.openMenu
 */
function Entry({ one, isCurrent, isAnswering, found, list, openMenu }) {
  const title = one.title || "New chat";
  /** @param {MouseEvent} event */
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    list.open(one.id);
  };
  /** @param {{ currentTarget: HTMLElement }} event */
  const more = ({ currentTarget: button }) => openMenu({ one, button });
  return html`<li class="entry">
    <a href=${`/c/${one.id}`} aria-current=${isCurrent ? "page" : null} title=${title} onClick=${go}>
      <span class="clip">${title}</span>
      ${found && html`<span class="clip found">${found}</span>`}
    </a>
    ${isAnswering && html`<span class="running" role="img" aria-label="Answering"></span>`}
    <button type="button" class="icon-button small" aria-haspopup="menu" aria-label=${`More for ${title}`}
      onClick=${more}><${Icon} name="ellipsis" /></button>
  </li>`;
}

/**
 * Place a menu at its button, and move the focus into it.
 *
 * @param {HTMLElement} menu
 * @param {HTMLElement} button
 */
function showMenu(menu, button) {
  menu.showPopover({ source: button });
  const { bottom, top, right } = button.getBoundingClientRect();
  const below = bottom + menu.offsetHeight < innerHeight;
  menu.style.top = `${below ? bottom + 2 : Math.max(top - menu.offsetHeight - 2, 4)}px`;
  menu.style.left = `${Math.max(Math.min(right - menu.offsetWidth, innerWidth - menu.offsetWidth - 4), 4)}px`;
  menu.querySelector("button")?.focus();
}

/**
 * @param {object} props
 * @param {OpenMenu | null} props.menu
 * @param {() => void} props.close
 * @param {ConversationList} props.list
 * @param {(id: string) => void} props.rename
 */
function Menu({ menu, close, list, rename }) {
  /** @type {Ref<HTMLElement | null>} */
  const box = useRef(null);
  useEffect(() => {
    if (menu && box.current) showMenu(box.current, menu.button);
  }, [menu]);
  if (!menu) return null;
  const { one, button } = menu;
  /**
   * @param {string} icon
   * @param {string} label
   * @param {() => void} action
   */
  const item = (icon, label, action) => {
    const onClick = () => {
      box.current?.hidePopover();
      button.focus();
      action();
    };
    return html`<button type="button" role="menuitem" onClick=${onClick}><${Icon} name=${icon} />${label}</button>`;
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    if (event.key === "Tab") box.current?.hidePopover();
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const items = [...(box.current?.querySelectorAll("button") ?? [])];
    const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    items[(at + step + items.length) % items.length].focus();
  };
  return html`<div ref=${box} popover="auto" role="menu" class="menu" aria-label="Conversation" onKeyDown=${pressed}
    onToggle=${(/** @type {ToggleEvent} */ event) => event.newState === "closed" && close()}>
    ${item("pencil", "Rename", () => rename(one.id))}
    ${item(one.pinned ? "pin-off" : "pin", one.pinned ? "Unpin" : "Pin", () => list.pin(one))}
    ${item("download", "Export as JSON", () => list.exportOne(one, "json"))}
    ${item("file-text", "Export as Markdown", () => list.exportOne(one, "markdown"))}
    ${item("trash-2", "Delete", () => list.remove(one))}
  </div>`;
}

/** @param {{ deleted: ConversationRecord, undo: () => void }} props */
const Undo = ({ deleted, undo }) => html`<div class="undo" role="status">
  <span class="clip">Deleted “${deleted.title || "New chat"}”</span>
  <button type="button" class="button" onClick=${undo}>Undo</button></div>`;

/** @param {{ query: string, setQuery: (query: string) => void, list: ConversationList }} props */
function Top({ query, setQuery, list }) {
  /** @param {Event} event */
  const start = (event) => {
    event.preventDefault();
    list.open(null);
  };
  return html`<div class="side-top">
    <a class="button new" href="/" onClick=${start}><${Icon} name="plus" />New chat</a>
    <div class="search"><${Icon} name="search" />
      <input type="search" aria-label="Search conversations" placeholder="Search" value=${query}
        onFocus=${() => list.loadTexts()}
        onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => setQuery(target.value)} /></div>
  </div>`;
}

/**
 * The whole sidebar.
 *
 * @param {{ state: ListState, list: ConversationList }} props
 */
export function Sidebar({ state, list }) {
  const [query, setQuery] = useState("");
  const [renaming, setRenaming] = useState(/** @type {string | null} */ (null));
  const [menu, setMenu] = useState(/** @type {OpenMenu | null} */ (null));
  const { current, answering, deleted, texts } = state;
  const wanted = query.trim().toLowerCase();
  /** @param {ConversationRecord} one */
  const inTitle = (one) => one.title.toLowerCase().includes(wanted);
  const shown = wanted
    ? state.conversations.filter((one) => inTitle(one) || texts?.get(one.id)?.lower.includes(wanted))
    : state.conversations;
  /** @param {ConversationRecord} one */
  const entry = (one) => {
    if (renaming === one.id) {
      const close = () => setRenaming(null);
      return html`<li key=${one.id} class="entry"><${Rename} one=${one} list=${list} close=${close} /></li>`;
    }
    const found = wanted && !inTitle(one) ? snippet(texts?.get(one.id)?.text ?? "", wanted) : "";
    return html`<${Entry} key=${one.id} one=${one} isCurrent=${one.id === current}
      isAnswering=${answering.has(one.id)} found=${found} list=${list} openMenu=${setMenu} />`;
  };
  return html`
    <${Top} query=${query} setQuery=${setQuery} list=${list} />
    <nav class="list" aria-label="Conversations">
      ${wanted && !shown.length && html`<p class="quiet small">No results for “${query.trim()}”.</p>`}
      ${
        !wanted &&
        !shown.length &&
        html`<p class="quiet small">No conversations yet. They are stored in this browser only.</p>`
      }
      ${grouped(shown).map(
        ([name, members]) => html`<section key=${name}><h2>${name}</h2><ul>${members.map(entry)}</ul></section>`,
      )}
    </nav>
    ${deleted && html`<${Undo} deleted=${deleted} undo=${() => list.undo()} />`}
    <div class="side-end">
      <${IconButton} icon="download" label="Export all conversations" onClick=${() => list.exportAll()} />
      <${IconButton} icon="upload" label="Import conversations" onClick=${() => list.importFile()} />
      <${IconButton} icon="keyboard" label="Keyboard shortcuts" title="Keyboard shortcuts (Ctrl+/)"
        onClick=${() => list.help()} />
    </div>
    <${Menu} menu=${menu} close=${() => setMenu(null)} list=${list} rename=${setRenaming} />`;
}
