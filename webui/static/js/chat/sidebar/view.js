// The sidebar as components: search, the list of conversations or what was found, undo.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../../vendor/preact-htm.js";
import { fill, isComposing, joined, pluralText, size, texts } from "../../shell/page.js";
import { Entry, Icon, titleOf } from "./list_entry.js";
import { showAllMenu, showListMenu } from "./list_menu.js";
import { focusedId, placeAfter, Rows } from "./list_rows.js";
import { resultsOf } from "./results.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { ConnectionStatus } from "../history/connection.js" */
/** @import { ConversationRecord, HistoryBoot } from "../state/types.js" */
/** @import { Result } from "./results.js" */
/** @import { Found } from "./search.js" */
/** @import { ConversationList } from "./list.js" */
/** @import { OpenMenu, Standing } from "./list_entry.js" */
/** @import { ListPlace, Wanted } from "./list_rows.js" */

/**
 * What the list shows. `found`: what the last search has found; `connection`: how the connection to the server stands,
 * null without a history there.
 *
 * @typedef {object} ListState
 * @property {ConversationRecord[]} conversations
 * @property {string | null} current
 * @property {Set<string>} answering
 * @property {ConversationRecord | null} deleted
 * @property {Found | null} found
 * @property {Wanted | null} wanted a row to bring into view
 * @property {number} movable how many conversations of this browser can be moved to the server
 * @property {ConnectionStatus | null} connection
 * @property {HistoryBoot} place
 */

/** Results that are rendered at first; more are as the list is scrolled. */
const RESULTS = 30;
const BEFORE_END_PX = 600;

/** @param {{ icon: string, label: string, title?: string, onClick: () => void }} props */
const IconButton = ({ icon, label, title, onClick }) =>
  html`<button type="button" class="icon-button" aria-label=${label} title=${title ?? label} onClick=${onClick}>
    <${Icon} name=${icon} /></button>`;

/** @param {{ deleted: ConversationRecord, undo: () => void }} props */
const Undo = ({ deleted, undo }) => html`<div class="undo" role="status">
  <span class="clip">${fill(texts.sidebar.deleted, { title: titleOf(deleted) })}</span>
  <button type="button" class="button" onClick=${undo}>${texts.turns.undo}</button></div>`;

/**
 * @param {object} props
 * @param {string} props.query
 * @param {(query: string) => void} props.setQuery
 * @param {ConversationList} props.list
 * @param {(open: boolean) => void} props.toList moves the focus from the search into the list, or opens its first
 */
function Top({ query, setQuery, list, toList }) {
  /** @param {Event} event */
  const start = (event) => {
    event.preventDefault();
    list.open(null);
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    if (isComposing(event)) return;
    if (event.key !== "ArrowDown" && !(event.key === "Enter" && query.trim())) return;
    event.preventDefault();
    toList(event.key === "Enter");
  };
  return html`<div class="side-top">
    <a class="button new" href="/" onClick=${start}><${Icon} name="plus" />${texts.sidebar.new_chat}</a>
    <div class="search"><${Icon} name="search" />
      <input type="search" aria-label=${texts.sidebar.search_conversations}
        placeholder=${texts.sidebar.search} maxlength="400" value=${query} dir="auto" onKeyDown=${pressed}
        onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => setQuery(target.value)} /></div>
  </div>`;
}

/**
 * Return what stands in the way of saving, in words; "" while all is well.
 *
 * @param {ConnectionStatus | null} connection
 * @param {HistoryBoot} place
 */
function connectionWords(connection, place) {
  switch (connection?.state) {
    case "offline":
      return texts.sidebar.offline;
    case "full":
      return fill(texts.sidebar.full, { size: size(place.quota_bytes) });
    case "out":
      return texts.sidebar.signed_out;
    case "off":
      return texts.sidebar.history_off;
    case "refused":
      return fill(texts.sidebar.refused, { why: connection.why });
    default:
      return "";
  }
}

/** @param {{ place: HistoryBoot, isEmpty: boolean, isOut: boolean }} props */
function About({ place, isEmpty, isOut }) {
  if (isEmpty && isOut) return html`<p class="quiet small">${texts.sidebar.sign_in_to_see}</p>`;
  const words = [];
  if (isEmpty) words.push(texts.sidebar.none_yet);
  if (place.place === "server") {
    if (isEmpty) words.push(texts.sidebar.on_every_device);
    if (place.retention_days) words.push(pluralText(texts.sidebar.retention, place.retention_days));
  } else if (place.person) words.push(texts.sidebar.history_is_off);
  else if (isEmpty) words.push(texts.sidebar.only_here);
  return words.length ? html`<p class="quiet small">${joined(...words)}</p>` : null;
}

/**
 * Keep the focus on its row where the row is rendered anew, in another group or without its text box.
 *
 * @param {Ref<HTMLElement | null>} nav
 */
function useKeptFocus(nav) {
  const id = focusedId(nav.current);
  useLayoutEffect(() => {
    if (!id || document.activeElement !== document.body) return;
    /** @type {HTMLElement | null | undefined} */
    const link = nav.current?.querySelector(`[data-id="${CSS.escape(id)}"] a`);
    link?.focus({ preventScroll: true });
  });
}

/**
 * What a search has found.
 *
 * @param {{ results: Result[], wanted: string, entry: (result: Result, standing: Standing) => unknown }} props
 */
function Results({ results, wanted, entry }) {
  /** @type {Ref<HTMLElement | null>} */
  const box = useRef(null);
  const [shown, setShown] = useState({ wanted, most: RESULTS });
  const most = shown.wanted === wanted ? shown.most : RESULTS;
  useEffect(() => {
    const side = box.current?.closest("#sidebar");
    const look = () => {
      const end = box.current?.getBoundingClientRect().bottom ?? 0;
      if (most < results.length && end < innerHeight + BEFORE_END_PX) setShown({ wanted, most: most + RESULTS });
    };
    side?.addEventListener("scroll", look, { capture: true, passive: true });
    return () => side?.removeEventListener("scroll", look, { capture: true });
  }, [results, wanted, most]);
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    const links = [...(box.current?.querySelectorAll("a") ?? [])];
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    const place = at < 0 ? null : placeAfter(event, at, links.length);
    if (place === null) return;
    event.preventDefault();
    links[place].focus();
  };
  const count = results.length;
  const entries = results.slice(0, most).map((result, at) => entry(result, { at, count, gap: 0 }));
  return html`<ul ref=${box} onKeyDown=${pressed}>${entries}</ul>`;
}

/**
 * The whole sidebar.
 *
 * @param {{ state: ListState, list: ConversationList }} props
 */
export function Sidebar({ state, list }) {
  /** @type {Ref<HTMLElement | null>} */
  const nav = useRef(null);
  const listPlace = useRef(/** @type {ListPlace} */ ({ top: 0, current: null })).current;
  const [query, setQuery] = useState("");
  const [renaming, setRenaming] = useState(/** @type {string | null} */ (null));
  const [menu, setMenu] = useState(/** @type {OpenMenu | null} */ (null));
  const { conversations, current, answering, deleted, found, connection, place } = state;
  const wanted = query.trim();
  const byId = useMemo(() => new Map(conversations.map((one) => [one.id, one])), [conversations]);
  const results = useMemo(
    () => (wanted ? resultsOf(conversations, wanted, found) : []),
    [conversations, wanted, found],
  );
  useKeptFocus(nav);
  useEffect(() => {
    if (wanted) nav.current?.scrollTo(0, 0);
  }, [wanted]);
  /** @param {string} typed */
  const search = (typed) => {
    setQuery(typed);
    list.search(typed);
  };
  /** @param {boolean} open */
  const toList = (open) => {
    /** @type {HTMLElement | null | undefined} */
    const first = nav.current?.querySelector("li a");
    if (open) first?.click();
    else first?.focus();
  };
  /** @param {OpenMenu} opened its row stays in the page */
  const openMenu = (opened) => {
    setMenu(opened);
    showListMenu(opened, { list, shares: place.shares, rename: setRenaming, closed: () => setMenu(null) });
  };
  /**
   * @param {ConversationRecord} one
   * @param {Standing} standing
   * @param {Result} [result]
   */
  const entry = (one, standing, result) => html`<${Entry} key=${one.id} one=${one} standing=${standing}
    isCurrent=${one.id === current} isAnswering=${answering.has(one.id)} isRenaming=${renaming === one.id} list=${list}
    openMenu=${openMenu} endRenaming=${() => setRenaming(null)} result=${result} wanted=${wanted} />`;
  /**
   * @param {Result} result
   * @param {Standing} standing
   */
  const foundEntry = (result, standing) =>
    entry(/** @type {ConversationRecord} */ (byId.get(result.id)), standing, result);
  /** @param {{ currentTarget: HTMLElement }} event */
  const manage = ({ currentTarget }) => showAllMenu(currentTarget, list, { ...place, isEmpty: !conversations.length });
  const words = connectionWords(connection, place);
  return html`
    <${Top} query=${query} setQuery=${search} list=${list} toList=${toList} />
    <nav ref=${nav} class="list" aria-label=${texts.sidebar.conversations}>
      ${
        wanted
          ? html`<${SearchState} wanted=${wanted} found=${found} count=${results.length} />
            <${Results} results=${results} wanted=${wanted} entry=${foundEntry} />`
          : html`<${Rows} conversations=${conversations} current=${current} used=${[renaming, menu?.one.id]}
              wanted=${state.wanted} place=${listPlace} entry=${entry} />
            <${About} place=${place} isEmpty=${!conversations.length} isOut=${connection?.state === "out"} />
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
      <button type="button" class="button manage" aria-haspopup="menu" onClick=${manage}>
        <${Icon} name="ellipsis" />${texts.sidebar.manage}</button>
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
    </div>`;
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
