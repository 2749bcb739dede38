// Offering files that a page has made.

import { el } from "./page.js";

/** Until then the browser has begun to read the file. */
const KEPT_MS = 60_000;

/**
 * Offer text as a download.
 *
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  offer(name, url);
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/**
 * Offer what is at an address as a download.
 *
 * @param {string} name
 * @param {string} url
 */
export const offer = (name, url) => el("a", { href: url, download: name }).click();
