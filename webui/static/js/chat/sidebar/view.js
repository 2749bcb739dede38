// The list of conversations as components: search, entries in groups, the menu of an entry, undo.

import { html, useEffect, useRef, useState } from "../../../vendor/preact-htm.js";
import { fill, iconPath, pluralText, size, texts } from "../../shell/page.js";
import { Passages, resultsOf } from "./results.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { LinkStatus } from "../history/link.js" */
/** @import { ConversationRecord, HistoryBoot } from "../state/types.js" */
/** @import { Result } from "./results.js" */
/** @import { Found, Hit } from "./search.js" */
/** @import { ConversationList } from "./list.js" */

/**
 * What the list shows. `found`: what the last search has found; `link`: how the connection to the server stands,
 * null without a history there.
 *
 * @typedef {object} ListState
 * @property {ConversationRecord[]} conversations
 * @property {string | null} current
 * @property {Set<string>} answering
 * @property {ConversationRecord | null} deleted
 * @property {Found | null} found
 * @property {number} movable how many conversations of this browser can be moved to the server
 * @property {LinkStatus | null} link
 * @property {HistoryBoot} place
 */

const DAY_MS = 86_400_000;

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
    [texts.sidebar.pinned, []],
    [texts.sidebar.today, []],
    [texts.sidebar.last_7_days, []],
    [texts.sidebar.earlier, []],
  ];
  for (const one of [...conversations].sort((a, b) => b.updated - a.updated)) {
    const place = one.pinned ? 0 : one.updated >= today ? 1 : one.updated >= today - 6 * DAY_MS ? 2 : 3;
    groups[place][1].push(one);
  }
  return groups.filter(([, members]) => members.length);
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
  return html`<input ref=${box} aria-label=${texts.sidebar.new_title} maxlength="120"
    defaultValue=${one.title} autofocus onKeyDown=${pressed} onBlur=${() => done(true)} />`;
}

/** @typedef {{ one: ConversationRecord, button: HTMLElement }} OpenMenu */

/**
 * @param {object} props
 * @param {ConversationRecord} props.one
 * @param {boolean} props.isCurrent
 * @param {boolean} props.isAnswering
 * @param {ConversationList} props.list
 * @param {(menu: OpenMenu) => void} props.openMenu
 * @param {unknown} [props.children]
 */
function Entry({ one, isCurrent, isAnswering, list, openMenu, children }) {
  const title = one.title || texts.sidebar.new_chat;
  /** @param {MouseEvent} event */
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    list.open(one.id);
  };
  /** @param {{ currentTarget: HTMLElement }} event */
  const more = ({ currentTarget: button }) => openMenu({ one, button });
  return html`<li class=${children ? "entry result" : "entry"}>
    <a href=${`/c/${one.id}`} aria-current=${isCurrent ? "page" : null} title=${title} onClick=${go}>
      <span class="clip">${title}</span>
    </a>
    ${isAnswering && html`<span class="running" role="img" aria-label=${texts.sidebar.answering}></span>`}
    <button type="button" class="icon-button small" aria-haspopup="menu"
      aria-label=${fill(texts.sidebar.more_for, { title })} onClick=${more}><${Icon} name="ellipsis" /></button>
    ${children}
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
 * @param {boolean} props.shares whether read-only links may be made
 * @param {(id: string) => void} props.rename
 */
function Menu({ menu, close, list, shares, rename }) {
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
  return html`<div ref=${box} popover="auto" role="menu" class="menu" aria-label=${texts.sidebar.conversation}
    onKeyDown=${pressed} onToggle=${(/** @type {ToggleEvent} */ event) => event.newState === "closed" && close()}>
    ${item("pencil", texts.sidebar.rename, () => rename(one.id))}
    ${item(one.pinned ? "pin-off" : "pin", one.pinned ? texts.sidebar.unpin : texts.sidebar.pin, () => list.pin(one))}
    ${shares && item("link", texts.turns.share_link, () => list.share(one))}
    ${item("download", texts.sidebar.export_json, () => list.exportOne(one, "json"))}
    ${item("file-text", texts.sidebar.export_markdown, () => list.exportOne(one, "markdown"))}
    ${item("trash-2", texts.turns.delete, () => list.remove(one))}
  </div>`;
}

/** @param {{ deleted: ConversationRecord, undo: () => void }} props */
const Undo = ({ deleted, undo }) => html`<div class="undo" role="status">
  <span class="clip">${fill(texts.sidebar.deleted, { title: deleted.title || texts.sidebar.new_chat })}</span>
  <button type="button" class="button" onClick=${undo}>${texts.turns.undo}</button></div>`;

/** @param {{ query: string, setQuery: (query: string) => void, list: ConversationList }} props */
function Top({ query, setQuery, list }) {
  /** @param {Event} event */
  const start = (event) => {
    event.preventDefault();
    list.open(null);
  };
  return html`<div class="side-top">
    <a class="button new" href="/" onClick=${start}><${Icon} name="plus" />${texts.sidebar.new_chat}</a>
    <div class="search"><${Icon} name="search" />
      <input type="search" aria-label=${texts.sidebar.search_conversations} placeholder=${texts.sidebar.search}
        value=${query}
        onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => setQuery(target.value)} /></div>
  </div>`;
}

/**
 * Return what stands in the way of saving, in words; "" while all is well.
 *
 * @param {LinkStatus | null} link
 * @param {HistoryBoot} place
 */
function linkWords(link, place) {
  switch (link?.state) {
    case "offline":
      return texts.sidebar.offline;
    case "full":
      return fill(texts.sidebar.full, { size: size(place.quota_bytes) });
    case "out":
      return texts.sidebar.signed_out;
    case "off":
      return texts.sidebar.history_off;
    case "refused":
      return fill(texts.sidebar.refused, { why: link.why });
    default:
      return "";
  }
}

/** @param {{ place: HistoryBoot, isEmpty: boolean }} props */
function About({ place, isEmpty }) {
  const words = [];
  if (isEmpty) words.push(texts.sidebar.none_yet);
  if (place.place === "server") {
    if (isEmpty) words.push(texts.sidebar.on_every_device);
    if (place.retention_days) words.push(pluralText(texts.sidebar.retention, place.retention_days));
  } else if (place.person) words.push(texts.sidebar.history_is_off);
  else if (isEmpty) words.push(texts.sidebar.only_here);
  return words.length ? html`<p class="quiet small">${words.join(" ")}</p>` : null;
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
  const { conversations, current, answering, deleted, found, link, place } = state;
  const wanted = query.trim();
  /** @param {string} typed */
  const search = (typed) => {
    setQuery(typed);
    list.search(typed);
  };
  /**
   * @param {ConversationRecord} one
   * @param {Result} [result]
   */
  const entry = (one, result) => {
    if (renaming === one.id) {
      const close = () => setRenaming(null);
      return html`<li key=${one.id} class="entry"><${Rename} one=${one} list=${list} close=${close} /></li>`;
    }
    return html`<${Entry} key=${one.id} one=${one} isCurrent=${one.id === current}
      isAnswering=${answering.has(one.id)} list=${list} openMenu=${setMenu}>
      ${result && html`<${Passages} result=${result} open=${(/** @type {Hit} */ hit) => list.openHit(hit)} />`}
    <//>`;
  };
  const results = wanted ? resultsOf(conversations, wanted, found) : [];
  const byId = new Map(conversations.map((one) => [one.id, one]));
  const words = linkWords(link, place);
  return html`
    <${Top} query=${query} setQuery=${search} list=${list} />
    <nav class="list" aria-label=${texts.sidebar.conversations}>
      ${
        wanted
          ? html`<${SearchState} wanted=${wanted} found=${found} count=${results.length} />
            <ul>${results.map((result) => entry(/** @type {ConversationRecord} */ (byId.get(result.id)), result))}</ul>`
          : html`${grouped(conversations).map(
              ([name, members]) =>
                html`<section key=${name}><h2>${name}</h2><ul>${members.map((one) => entry(one))}</ul></section>`,
            )}
            <${About} place=${place} isEmpty=${!conversations.length} />
            ${
              state.movable > 0 &&
              html`<button type="button" class="button movable" onClick=${() => list.move()}>
              <${Icon} name="upload" />${pluralText(texts.sidebar.move, state.movable)}</button>`
            }`
      }
    </nav>
    ${deleted && html`<${Undo} deleted=${deleted} undo=${() => list.undo()} />`}
    ${words && html`<p class="link-state" role="status"><${Icon} name="triangle-alert" /><span>${words}</span></p>`}
    <div class="side-end">
      <${IconButton} icon="download" label=${texts.sidebar.export_all} onClick=${() => list.exportAll()} />
      <${IconButton} icon="upload" label=${texts.sidebar.import} onClick=${() => list.importFile()} />
      ${
        conversations.length > 0 &&
        html`<${IconButton} icon="trash-2" label=${texts.sidebar.delete_all} onClick=${() => list.removeAll()} />`
      }
      ${
        place.shares &&
        html`<${IconButton} icon="link" label=${texts.sidebar.shared_links} onClick=${() => list.share(null)} />`
      }
      <${IconButton} icon="keyboard" label=${texts.sidebar.shortcuts} title=${texts.sidebar.shortcuts_keys}
        onClick=${() => list.help()} />
    </div>
    <${Menu} menu=${menu} close=${() => setMenu(null)} list=${list} shares=${place.shares} rename=${setRenaming} />`;
}

/** @param {{ wanted: string, found: Found | null, count: number }} props */
function SearchState({ wanted, found, count }) {
  const isDone = found?.query === wanted;
  let words = "";
  if (!isDone) words = count ? "" : texts.sidebar.searching;
  else if (found.problem) words = found.problem;
  else if (!count) words = fill(texts.sidebar.no_results, { query: wanted });
  else if (found.partial) words = texts.sidebar.may_be_more;
  return html`<p class="quiet small" role="status" hidden=${!words}>${words}</p>`;
}
