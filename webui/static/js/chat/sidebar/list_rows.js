// All conversations in groups by their days, as components. Only the rows that can be seen are in the page, with
// some around them and those that are in use: a thousand rows would cost the page a second.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../../vendor/preact-htm.js";
import { texts } from "../../shell/page.js";
import { movedBy, rowsOf, spanOf } from "./list_window.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { Standing } from "./list_entry.js" */
/** @import { Span } from "./list_window.js" */

/** @typedef {[name: string, members: ConversationRecord[]]} Group */
/** A row to bring into view. @typedef {{ id: string, focus: boolean }} Wanted */
/**
 * What outlives a search: where the list was scrolled to, and what was open.
 *
 * @typedef {{ top: number, current: string | null }} ListPlace
 */

const DAY_MS = 86_400_000;
/** The height of a row until it is measured. */
const ROW_PX = 34;
/** Rows that are kept on each side of the one with the focus. */
const BESIDE = 6;
const NOTHING = { top: 0, bottom: 0 };

/**
 * Sort conversations into the groups of the list, the newest first.
 *
 * @param {ConversationRecord[]} conversations
 * @param {number} today when the day began
 */
function grouped(conversations, today) {
  /** @type {Group[]} */
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

/**
 * Return the rows to begin with, before anything can be measured.
 *
 * @param {Group[]} groups
 */
function firstSpans(groups) {
  /** @type {Map<string, Span>} */
  const spans = new Map();
  let left = Math.ceil(innerHeight / ROW_PX);
  for (const [name, { length }] of groups) {
    spans.set(name, { first: 0, end: Math.min(left, length) });
    left -= Math.min(left, length);
  }
  return spans;
}

/**
 * Return the part of the screen in which rows can be seen.
 *
 * @param {HTMLElement} box
 */
function bandOf(box) {
  const [list, side] = [".list", "#sidebar"].map((one) => box.closest(one)?.getBoundingClientRect() ?? NOTHING);
  const top = Math.max(list.top, side.top, 0);
  return { top, bottom: Math.max(top, Math.min(list.bottom, side.bottom, innerHeight)) };
}

/**
 * Return what scrolls the list: on very low screens it is the whole sidebar.
 *
 * @param {HTMLElement} box
 */
function scrollerOf(box) {
  const list = box.closest(".list");
  return list && list.scrollHeight > list.clientHeight ? list : box.closest("#sidebar");
}

/** Where the rows are on the screen, and which of them belong into the page. */
class Lay {
  row = ROW_PX;
  /** @type {Map<string, Span>} */
  spans = new Map();
  /** @type {Map<string, number>} the tops of the visible rows, by their conversations */
  tops = new Map();

  /**
   * Look where the groups are. Returns true if other rows belong into the page than before.
   *
   * @param {HTMLElement} box
   * @param {Group[]} groups
   */
  measure(box, groups) {
    const height = box.querySelector("li")?.getBoundingClientRect().height;
    const changed = Boolean(height) && height !== this.row;
    if (height) this.row = height;
    const band = bandOf(box);
    this.tops = new Map();
    let moved = changed;
    for (const [name, members] of groups) {
      const list = box.querySelector(`[data-group="${CSS.escape(name)}"]`);
      if (!list) continue;
      const { top } = list.getBoundingClientRect();
      const [from, to] = [band.top - top, band.bottom - top];
      const span = spanOf(from, to, this.row, members.length);
      const before = this.spans.get(name);
      moved ||= span.first !== before?.first || span.end !== before.end;
      this.spans.set(name, span);
      const last = Math.min(Math.ceil(to / this.row), members.length);
      for (let at = Math.max(Math.floor(from / this.row), 0); at < last; at += 1)
        this.tops.set(members[at].id, top + at * this.row);
    }
    return moved;
  }
}

/**
 * Return the conversation whose row has the focus.
 *
 * @param {HTMLElement | null} box
 */
export function focusedId(box) {
  const { activeElement } = document;
  if (!activeElement || !box?.contains(activeElement)) return null;
  return activeElement.closest("li")?.dataset.id ?? null;
}

/**
 * Return the place that a key leads to from a row; null: it is no key for that.
 *
 * @param {KeyboardEvent} event
 * @param {number} at
 * @param {number} count
 */
export function placeAfter({ key, ctrlKey, metaKey, altKey, shiftKey }, at, count) {
  if (ctrlKey || metaKey || altKey || shiftKey) return null;
  const places = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1 };
  const place = places[/** @type {keyof typeof places} */ (key)];
  return place === undefined ? null : Math.max(0, Math.min(place, count - 1));
}

/**
 * @param {object} props
 * @param {ConversationRecord[]} props.conversations
 * @param {string | null} props.current
 * @param {(string | null | undefined)[]} props.used conversations whose rows stay in the page
 * @param {Wanted | null} props.wanted a row to bring into view
 * @param {ListPlace} props.place
 * @param {(one: ConversationRecord, standing: Standing) => unknown} props.entry
 */
export function Rows({ conversations, current, used, wanted, place, entry }) {
  /** @type {Ref<HTMLElement | null>} */
  const box = useRef(null);
  const lay = useRef(new Lay()).current;
  const asked = useRef(
    /** @type {{ from: Wanted | null, row: Wanted | null }} */ ({ from: wanted, row: null }),
  ).current;
  const [, setRound] = useState(Symbol("round"));
  const redraw = () => setRound(Symbol("round"));
  const today = new Date().setHours(0, 0, 0, 0);
  const groups = useMemo(() => grouped(conversations, today), [conversations, today]);
  const order = useMemo(() => groups.flatMap(([, members]) => members.map(({ id }) => id)), [groups]);
  const shown = useRef(groups);
  shown.current = groups;
  if (!lay.spans.size) lay.spans = firstSpans(groups);
  if (current !== place.current) asked.row = current ? { id: current, focus: false } : null;
  if (wanted && wanted !== asked.from) asked.row = wanted;
  place.current = current;
  asked.from = wanted;
  const focused = focusedId(box.current);
  const at = focused ? order.indexOf(focused) : -1;
  // The rows beside it are there before the next press of the Tab key, however late the list is scrolled.
  const around = at < 0 ? [] : order.slice(Math.max(at - BESIDE, 0), at + BESIDE + 1);
  const kept = new Set([...used, ...around, asked.row?.id]);
  const before = lay.tops;

  useLayoutEffect(() => {
    const { current: shownBox } = box;
    if (!shownBox) return;
    const isChanged = lay.measure(shownBox, groups);
    if (isChanged) redraw();
  });
  // A list that has changed keeps its place, but for one that is at its start.
  useLayoutEffect(() => {
    const scroller = box.current && scrollerOf(box.current);
    const moved = movedBy(before, lay.tops);
    if (scroller && scroller.scrollTop > 0 && moved) scroller.scrollTop += moved;
  }, [groups]);
  useLayoutEffect(() => {
    const scroller = box.current && scrollerOf(box.current);
    if (scroller) scroller.scrollTop = place.top;
  }, []);
  useLayoutEffect(() => {
    const { row } = asked;
    const item = row && box.current?.querySelector(`[data-id="${CSS.escape(row.id)}"]`);
    if (!item?.getClientRects().length) return; // a closed sidebar shows it when it opens
    asked.row = null;
    item.scrollIntoView({ block: "nearest" });
    if (row?.focus) item.querySelector("a")?.focus({ preventScroll: true });
  });
  useEffect(() => {
    const side = box.current?.closest("#sidebar");
    const list = box.current?.closest(".list");
    if (!side || !list) return undefined;
    const look = () => {
      if (!box.current) return;
      place.top = scrollerOf(box.current)?.scrollTop ?? 0;
      if (lay.measure(box.current, shown.current) || asked.row) redraw();
    };
    side.addEventListener("scroll", look, { capture: true, passive: true });
    list.addEventListener("focusin", redraw);
    const sizes = new ResizeObserver(look);
    sizes.observe(list);
    return () => {
      side.removeEventListener("scroll", look, { capture: true });
      list.removeEventListener("focusin", redraw);
      sizes.disconnect();
    };
  }, []);

  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    const from = order.indexOf(focusedId(box.current) ?? "");
    const next = from < 0 || event.target instanceof HTMLInputElement ? null : placeAfter(event, from, order.length);
    if (next === null) return;
    event.preventDefault();
    asked.row = { id: order[next], focus: true };
    redraw();
  };
  /** @param {Group} group */
  const section = ([name, members]) => {
    const inUse = members.flatMap(({ id }, at) => (kept.has(id) ? [at] : []));
    const { rows, rest } = rowsOf(lay.spans.get(name) ?? { first: 0, end: 0 }, members.length, inUse);
    const entries = rows.map(({ at, gap }) => entry(members[at], { at, count: members.length, gap: gap * lay.row }));
    return html`<section key=${name}><h2>${name}</h2>
      <ul data-group=${name} style=${{ paddingBlockEnd: rest ? `${rest * lay.row}px` : "" }}>${entries}</ul></section>`;
  };
  return html`<div ref=${box} onKeyDown=${pressed}>${groups.map(section)}</div>`;
}
