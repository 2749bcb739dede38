// The usage pages: keep the offset of the owner's clock for the server, and print statements.
//
// The server knows from it which month it is where the owner is. A page of a month that was made for
// another day is loaded again.

import "../shell/complete.js";
import { keepCookie } from "../shell/page.js";

const OFFSET_COOKIE = "roxy_utc_offset";

/**
 * Return how far a clock is ahead of UTC, in minutes.
 *
 * @param {Date} at
 */
const offsetOf = (at) => -at.getTimezoneOffset() || 0;

/**
 * Return the day of a clock that is `offset` minutes ahead of UTC, as 2026-11-29.
 *
 * @param {Date} at
 * @param {number} offset
 */
const dayOf = (at, offset) => new Date(at.getTime() + offset * 60_000).toISOString().slice(0, 10);

const page = document.querySelector("[data-offset]");
const now = new Date();
const offset = offsetOf(now);
if (page instanceof HTMLElement && page.dataset.offset !== String(offset)) {
  keepCookie(OFFSET_COOKIE, String(offset));
  const isKept = document.cookie.split("; ").includes(`${OFFSET_COOKIE}=${offset}`);
  if (isKept && page.dataset.month && page.dataset.today !== dayOf(now, offset)) location.reload();
}

const printButton = document.querySelector("[data-print]");
if (printButton instanceof HTMLButtonElement) {
  printButton.hidden = false;
  printButton.addEventListener("click", () => print());
}
