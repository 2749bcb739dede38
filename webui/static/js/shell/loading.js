// Modules that are loaded when they are wanted. One that does not come is asked for again: networks change,
// and gateways restart.
//
// Browsers from before the middle of 2026 remember a module that has failed, and do not ask for it again.
// Another address would give them a second instance of it, with a state of its own: there the page has to be
// loaded again, and the visitor is asked to do so.

/** The event by which the page learns that something it needs could not be loaded. */
export const NOT_LOADED_EVENT = "roxy-not-loaded";

/**
 * Why a module did not come: the server cannot be reached, it has another version now, or neither.
 *
 * @typedef {"away" | "updated" | "unknown"} Reason
 */

const PAUSES_MS = [200, 800, 2000];
const LONGEST_PAUSE_MS = 10_000;
/** Firefox stops loading modules when another page is asked for, before this one is gone. */
const LEAVING_MS = 10_000;
let leftAt = -LEAVING_MS;
addEventListener("beforeunload", () => {
  leftAt = performance.now();
});

/** A module could not be loaded. The page knows it by the event. */
class NotLoaded extends Error {
  /**
   * @param {Reason} reason
   * @param {unknown} cause
   */
  constructor(reason, cause) {
    super(`not loaded: ${reason}`, { cause });
    this.reason = reason;
  }
}

/** Return why modules may not come: this one is asked for as a file. @returns {Promise<Reason>} */
async function findReason() {
  try {
    const { ok, status } = await fetch(import.meta.url, { cache: "no-store" });
    return status === 404 ? "updated" : ok ? "unknown" : "away";
  } catch {
    return "away";
  }
}

/**
 * Wait, at most until the browser is online again.
 *
 * @param {number} ms
 */
const pause = (ms) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    addEventListener(
      "online",
      () => {
        clearTimeout(timer);
        resolve(null);
      },
      { once: true },
    );
  });

/**
 * Import a module, several times if need be. Raises NotLoaded in the end.
 *
 * @template T
 * @param {() => Promise<T>} importing
 * @param {{ patient?: boolean }} [options] `patient`: no person waits for it, so it is tried until the server can be
 *   reached
 * @returns {Promise<T>}
 */
export async function loadModule(importing, { patient = false } = {}) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await importing();
    } catch (error) {
      // While the page is being left it is no fault.
      if (performance.now() - leftAt < LEAVING_MS) return new Promise(() => {});
      const reason = await findReason();
      const isLast = tries >= PAUSES_MS.length && !(patient && reason === "away");
      if (reason === "updated" || isLast) {
        document.dispatchEvent(new CustomEvent(NOT_LOADED_EVENT, { detail: reason }));
        throw new NotLoaded(reason, error);
      }
    }
    await pause(PAUSES_MS[tries] ?? Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** (tries - PAUSES_MS.length + 1)));
  }
}

// A click whose module does not come ends there: what is to be said has been said.
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof NotLoaded) event.preventDefault();
});
