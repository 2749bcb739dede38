// What the scripts of every page share: making nodes, texts and figures in words, the theme switch.
//
// The theme is kept in a cookie that the server reads, so that the next page comes in the right
// colours from its first pixel.

const SPRITE = new URL("../../icons.svg", import.meta.url).pathname;
const SVG = "http://www.w3.org/2000/svg";
const THEMES = ["system", "light", "dark"];
/** @type {Record<string, string>} */
const THEME_ICONS = { system: "monitor", light: "sun", dark: "moon" };
const YEAR_S = 365 * 24 * 3600;

/** @typedef {Record<string, unknown>} Props */

/**
 * Return a new element. `props` are attributes; functions named `onx` listen to the event `x`; true is
 * an empty attribute, and null, undefined and false are none.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props} [props]
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

/**
 * Return the first element that matches `selector` and is a `kind`. Raises TypeError without one.
 *
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function part(selector, kind, root = document) {
  const node = root.querySelector(selector);
  if (node instanceof kind) return node;
  throw new TypeError(`no ${selector}`);
}

/**
 * Return the element that an event began at, or the nearest one around it that matches.
 *
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
export const closest = ({ target }, selector) => (target instanceof Element ? target.closest(selector) : null);

/**
 * True for the keys of an input method: its Enter ends a word. Safari marks them by the code alone.
 *
 * @param {KeyboardEvent} event
 */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/**
 * Return an icon, hidden from screen readers.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${SPRITE}#${name}`);
  svg.append(use);
  return svg;
}

/**
 * Return the path of an icon, for `use`.
 *
 * @param {string} name
 */
export const iconPath = (name) => `${SPRITE}#${name}`;

/**
 * Return a button that shows an icon and is called `label`.
 *
 * @param {string} name
 * @param {string} label
 * @param {Props} [props]
 */
export function iconButton(name, label, props) {
  const named = { type: "button", class: "icon-button small", "aria-label": label, title: label };
  return el("button", { ...named, ...props }, icon(name));
}

/**
 * Announce something to screen readers, politely.
 *
 * @param {string} text
 */
export function announce(text) {
  const status = document.querySelector("[data-status]");
  if (status && status.textContent !== text) status.textContent = text;
}

// Loading on demand. A module that does not come is asked for again: networks change, and gateways restart.
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
const MAX_PAUSE_MS = 10_000;
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
    setTimeout(resolve, ms);
    addEventListener("online", resolve, { once: true });
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
    await pause(PAUSES_MS[tries] ?? Math.min(MAX_PAUSE_MS, 1000 * 2 ** (tries - PAUSES_MS.length + 1)));
  }
}

// A click whose module does not come ends there: what is to be said has been said.
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof NotLoaded) event.preventDefault();
});

/** @import { Catalogue, Plural } from "./catalogue.js" */

/**
 * The texts of this page in the visitor's language: the groups of `webui/texts` that the page asked for.
 *
 * @type {Catalogue}
 */
export const texts = JSON.parse(document.body.dataset.texts ?? "{}");

/** The language of the page, for Intl. */
export const language = document.documentElement.lang;

const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

/** What is between two sentences. */
export const BETWEEN = language === "ja" ? "" : " ";

/**
 * Join sentences.
 *
 * @param {...string} sentences
 */
export const joined = (...sentences) => sentences.join(BETWEEN);

/**
 * Return a text with its placeholders replaced.
 *
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));

/**
 * Return the form of a text for a number, with `{count}` filled in.
 *
 * @param {Plural} forms
 * @param {number} number
 * @param {Record<string, string | number>} [values] of other placeholders
 */
export const pluralText = (forms, number, values) =>
  fill(plurals.select(number) === "one" ? forms.one : forms.other, { count: count(number), ...values });

/**
 * Return a number in full: 1,204.
 *
 * @param {number} number
 */
export const count = (number) => numbers.format(number);

/**
 * Return a number with a fixed number of decimals.
 *
 * @param {number} number
 * @param {number} digits
 */
const fixed = (number, digits) =>
  number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/**
 * Return a short form of a number: 131K, 1.3K, 1M.
 *
 * @param {number} number
 */
export function short(number) {
  if (number < 1000) return String(number);
  const [unit, value] = number < 999_500 ? ["K", number / 1e3] : ["M", number / 1e6];
  const digits = value < 99.95 && value.toFixed(1).at(-1) !== "0" ? 1 : 0;
  return fixed(value, digits) + unit;
}

/**
 * Return an amount of micro-dollars as text: $0.0042.
 *
 * @param {number} microusd
 */
export function money(microusd) {
  const dollars = microusd / 1e6;
  if (dollars === 0) return "$0";
  if (dollars < 0.0001) return `<$${fixed(0.0001, 4)}`;
  return `$${fixed(dollars, dollars < 1 ? 4 : 2)}`;
}

/**
 * Return a size as text: 1.2 MB.
 *
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${fixed(bytes / 1024, bytes < 10240 ? 1 : 0)} KB`;
  return `${fixed(bytes / 1024 ** 2, 1)} MB`;
}

/**
 * Return a duration as text: 0.6 s, 12 s, 2 min 5 s.
 *
 * @param {number} s
 */
export function seconds(s) {
  if (s < 0.05) return `< ${fixed(0.1, 1)} s`;
  if (s < 10) return `${fixed(s, 1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/**
 * Return a time to wait as text: 17 seconds, 5 minutes, 23 hours 59 minutes.
 *
 * @param {number} s whole seconds
 */
export function span(s) {
  if (s < 120) return pluralText(texts.page.seconds, s);
  const minutes = Math.ceil(s / 60);
  if (minutes < 120) return pluralText(texts.page.minutes, minutes);
  const hours = pluralText(texts.page.hours, Math.floor(minutes / 60));
  return minutes % 60 ? `${hours} ${pluralText(texts.page.minutes, minutes % 60)}` : hours;
}

const chosenTheme = () => document.documentElement.dataset.theme ?? "system";

/** @param {string} theme */
function chooseTheme(theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  const scheme = theme === "system" ? "light dark" : theme;
  part('meta[name="color-scheme"]', HTMLMetaElement).content = scheme;
  keepCookie("roxy_theme", theme, theme === "system" ? 0 : YEAR_S);
}

/**
 * Keep a choice in a cookie, so that the server's next page already follows it.
 *
 * @param {string} name
 * @param {string} value
 * @param {number} [age] in seconds; 0 removes the cookie
 */
export function keepCookie(name, value, age = YEAR_S) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${name}=${value}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
}

/** @param {HTMLElement} button */
function labelTheme(button) {
  const theme = chosenTheme();
  button.querySelector("use")?.setAttribute("href", iconPath(THEME_ICONS[theme]));
  const label = (button.dataset.themeSwitch ?? "").split("|")[THEMES.indexOf(theme)] ?? "";
  button.setAttribute("aria-label", label);
  button.title = label;
}

/** @type {NodeListOf<HTMLElement>} */
const switches = document.querySelectorAll("[data-theme-switch]");
for (const button of switches) {
  labelTheme(button);
  button.hidden = false;
  button.addEventListener("click", () => {
    chooseTheme(THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]);
    labelTheme(button);
  });
}

/** @type {HTMLElement | null} */
const notice = document.querySelector("[data-notice]");
const closeNotice = notice?.querySelector("button");
if (notice && closeNotice) {
  closeNotice.hidden = false;
  closeNotice.addEventListener("click", () => {
    keepCookie("roxy_notice", notice.dataset.notice ?? "");
    notice.remove();
  });
}

/** @type {HTMLFormElement | null} */
const signOut = document.querySelector("form[data-person]");
signOut?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { leave } = await loadModule(() => import("./sign_out.js"));
    if (await leave(signOut.dataset.person ?? "")) signOut.submit();
  } catch {
    signOut.submit(); // the gateway was updated, or cannot be reached: the answer says so
  }
});

// Whom the page was made for. Its browser may sign in or out in another tab.

/** The event after a time in which the gateway could not be reached: what waits for it goes on at once. */
export const REACHABLE_EVENT = "roxy-reachable";

/**
 * The event at the beginning of such a time, once the page says it. While it lasts, `data-away` is set on the root
 * element: nothing else has to say it.
 */
export const AWAY_EVENT = "roxy-away";

/** The browser's history has no entries of dialogs any more. */
export const DIALOGS_EVENT = "roxy-dialogs-left";

/** The event by which the page learns that its visitor is another one now. */
export const SESSION_EVENT = "roxy-session";

/** The event by which such a page learns that its own visitor is signed in again. */
export const RETURN_EVENT = "roxy-return";

/**
 * What has become of the session: in words, and whether loading the page again is enough.
 *
 * @typedef {{ text: string, changed: boolean, ofKey: boolean }} SessionEnd
 */

/**
 * Return what the server has put into the head of the page.
 *
 * @param {"xsrf" | "visitor"} name
 */
export const pageMeta = (name) => document.querySelector(`meta[name="roxy-${name}"]`)?.getAttribute("content") ?? "";

let hasEnded = document.body.dataset.ended !== undefined;

/**
 * Let the page know that its visitor is another one now.
 *
 * @param {string} text
 * @param {boolean} changed
 * @param {boolean} [ofKey] whether the key cannot be used any more
 */
export function sessionEnded(text, changed, ofKey = false) {
  hasEnded = true;
  /** @type {SessionEnd} */
  const detail = { text, changed, ofKey };
  document.dispatchEvent(new CustomEvent(SESSION_EVENT, { detail }));
}

const LOADED_AGAIN = "roxy-loaded-again";

/** Load the page once more: this time the browser sends the session's cookie. */
function loadOnceMore() {
  try {
    if (sessionStorage.getItem(LOADED_AGAIN) === location.href) return;
    sessionStorage.setItem(LOADED_AGAIN, location.href);
  } catch {
    return; // without a trace of the first time it might never end
  }
  location.replace(location.href);
}

function forgetLoading() {
  try {
    sessionStorage.removeItem(LOADED_AGAIN);
  } catch {
    // There is no session storage, so nothing was stored.
  }
}

/** Compare with each page that another tab opens. */
function watchSession() {
  const who = pageMeta("visitor").split(".")[0];
  if (who === "?") {
    loadOnceMore();
    return;
  }
  forgetLoading();
  const pages = new BroadcastChannel("roxy-session");
  pages.onmessage = ({ data }) => {
    if (hasEnded && data === who) document.dispatchEvent(new Event(RETURN_EVENT));
    if (!who || data === who || (hasEnded && data === "guest")) return;
    if (who === "guest") {
      if (data) sessionEnded(texts.page.signed_in_elsewhere, true);
    } else if (!data || data === "guest") {
      sessionEnded(texts.page.signed_out_elsewhere, false);
    } else sessionEnded(texts.page.other_key, true);
  };
  if (!hasEnded) pages.postMessage(who);
}

watchSession();

/** @type {NodeListOf<HTMLFormElement>} */
const sendingForms = document.querySelectorAll("form[data-sends]");
for (const form of sendingForms) {
  const button = part("button", HTMLButtonElement, form);
  // The arrow keys change a list at every step, so the keyboard sends the form with its button.
  let pointed = false;
  button.hidden = true;
  form.addEventListener("pointerdown", () => {
    pointed = true;
  });
  form.addEventListener("keydown", () => {
    pointed = false;
  });
  form.addEventListener("change", () => {
    button.hidden = pointed;
    if (pointed) form.requestSubmit();
  });
}
