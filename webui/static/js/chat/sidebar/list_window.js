// Which rows of a long list are in the page: those that can be seen, some around them, and those that are in
// use. It knows no DOM.

/** Rows beyond the visible ones, on each side. */
const MARGIN = 10;
/** The window moves by so many rows, so that not every step of a scroll renders. */
const STEP = 5;

/**
 * The rows from `first` to `end`, without `end`.
 *
 * @typedef {{ first: number, end: number }} Span
 */

/**
 * Return the rows of a list of equal rows around the visible part; `from` and `to` are its bounds, from the top
 * of the list.
 *
 * @param {number} from
 * @param {number} to
 * @param {number} height of a row
 * @param {number} count
 * @returns {Span}
 */
export function spanOf(from, to, height, count) {
  /** @param {number} row */
  const within = (row) => Math.max(0, Math.min(row, count));
  const first = Math.floor((Math.floor(from / height) - MARGIN) / STEP) * STEP;
  const end = Math.ceil((Math.ceil(to / height) + MARGIN) / STEP) * STEP;
  return { first: within(first), end: within(end) };
}

/**
 * Return the rows to render, each with the number of left out ones right before it, and how many are left out
 * at the end.
 *
 * @param {Span} span
 * @param {number} count
 * @param {number[]} kept rows that stay in the page wherever they are
 * @returns {{ rows: { at: number, gap: number }[], rest: number }}
 */
export function rowsOf({ first, end }, count, kept) {
  const places = new Set(kept.filter((at) => at >= 0 && at < count));
  for (let at = first; at < Math.min(end, count); at += 1) places.add(at);
  let next = 0;
  const rows = [...places]
    .sort((a, b) => a - b)
    .map((at) => {
      const gap = at - next;
      next = at + 1;
      return { at, gap };
    });
  return { rows, rest: count - next };
}

/**
 * Return by how much the visible rows have moved: what most of them have. Some may have gone to another place.
 *
 * @param {Map<string, number>} before where each row was
 * @param {Map<string, number>} now
 */
export function movedBy(before, now) {
  /** @type {Map<number, number[]>} */
  const alike = new Map();
  for (const [id, top] of before) {
    const place = now.get(id);
    if (place === undefined) continue;
    const moved = Math.round(place - top);
    alike.set(moved, [...(alike.get(moved) ?? []), place - top]);
  }
  const [most] = [...alike.values()].sort((a, b) => b.length - a.length);
  return most?.[0] ?? 0;
}
