// What the scripts of every page share: making nodes, copying text, figures as text, the theme switch.
//
// The theme is kept in a cookie that the server reads, so that the next page comes in the right
// colours from its first pixel.

const SPRITE = new URL("../../icons.svg", import.meta.url).pathname;
const SVG = "http://www.w3.org/2000/svg";
const THEMES = ["system", "light", "dark"];
/** @type {Record<string, string>} */
const THEME_ICONS = { system: "monitor", light: "sun", dark: "moon" };
const YEAR_S = 365 * 24 * 3600;
const COPIED_MS = 1600;

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
 * Put text on the clipboard. Returns false where the browser does not allow it (plain http, mostly).
 *
 * Safari allows it only within the event of a click: a text that has to come first is passed as a promise.
 *
 * @param {string | Promise<string>} text
 */
export async function copyText(text) {
  try {
    if (typeof text === "string") await navigator.clipboard.writeText(text);
    else await navigator.clipboard.write([new ClipboardItem({ "text/plain": text.then(plainBlob) })]);
    return true;
  } catch {
    // Not a secure context, or not allowed: the old way needs a selection.
  }
  const area = el("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  area.value = await text;
  (focused?.closest("dialog") ?? document.body).append(area);
  area.focus();
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

/**
 * Copy text and confirm it on the button; where the browser refuses, show the text ready for Ctrl+C.
 *
 * @param {HTMLElement} button
 * @param {string | Promise<string>} text
 */
export async function copyFrom(button, text) {
  if (await copyText(text)) confirmCopied(button);
  else showForCopy(await text);
}

/** @param {string} text */
const plainBlob = (text) => new Blob([text], { type: "text/plain" });

/**
 * Show on a button that its text was copied.
 *
 * @param {HTMLElement} button
 */
export function confirmCopied(button) {
  if (button.dataset.copied) return;
  const label = button.getAttribute("aria-label");
  const use = button.querySelector("use");
  const path = use?.getAttribute("href") ?? "";
  const words = button.querySelector("span");
  const wordsBefore = words?.textContent ?? "";
  button.dataset.copied = "true";
  if (label) button.setAttribute("aria-label", "Copied");
  if (words) words.textContent = "Copied";
  use?.setAttribute("href", iconPath("check"));
  announce("Copied");
  setTimeout(() => {
    if (label) button.setAttribute("aria-label", label);
    if (words) words.textContent = wordsBefore;
    use?.setAttribute("href", path);
    delete button.dataset.copied;
  }, COPIED_MS);
}

/**
 * Show text in a dialog, selected.
 *
 * @param {string} text
 */
function showForCopy(text) {
  const area = el("textarea", { rows: "8", readonly: true, "aria-label": "Text to copy" });
  area.value = text;
  const dialog = el(
    "dialog",
    { "aria-label": "Copy", onclose: () => dialog.remove() },
    el("p", {}, "This browser does not let the page copy here. Press Ctrl+C to copy the selection."),
    area,
    el("p", {}, el("button", { class: "button", onclick: () => dialog.close() }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
  area.focus();
  area.select();
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

/** Firefox stops loading modules when another page is asked for, before this one is gone. */
const LEAVING_MS = 10_000;
let leftAt = -LEAVING_MS;
addEventListener("beforeunload", () => {
  leftAt = performance.now();
});

/**
 * Pass an error on; while the page is being left never, because what fails then is no fault.
 *
 * @param {unknown} error
 * @returns {Promise<never>}
 */
export const unlessLeaving = (error) =>
  performance.now() - leftAt < LEAVING_MS ? new Promise(() => {}) : Promise.reject(error);

const COUNT = new Intl.NumberFormat("en", { useGrouping: true });

/**
 * Return a number in full: 1,204.
 *
 * @param {number} number
 */
export const count = (number) => COUNT.format(number);

/**
 * Return a short form of a number: 131K, 1.3K, 1M.
 *
 * @param {number} number
 */
export function short(number) {
  if (number < 1000) return String(number);
  const [unit, value] = number < 999_500 ? ["K", number / 1e3] : ["M", number / 1e6];
  return (value < 99.95 ? value.toFixed(1).replace(".0", "") : Math.round(value)) + unit;
}

/**
 * Return an amount of micro-dollars as text: $0.0042.
 *
 * @param {number} microusd
 */
export function money(microusd) {
  const dollars = microusd / 1e6;
  if (dollars === 0) return "$0";
  if (dollars < 0.0001) return "<$0.0001";
  return `$${dollars < 1 ? dollars.toFixed(4) : dollars.toFixed(2)}`;
}

/**
 * Return a size as text: 1.2 MB.
 *
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(bytes < 10240 ? 1 : 0)} KB`;
  return `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

/**
 * Return a duration as text: 0.6 s, 12 s, 2 min 5 s.
 *
 * @param {number} s
 */
export function seconds(s) {
  if (s < 0.05) return "< 0.1 s";
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/**
 * Return a time to wait as text: 17 seconds, 5 minutes, 23 hours 59 minutes.
 *
 * @param {number} s whole seconds
 */
export function span(s) {
  if (s < 120) return plural(s, "second");
  const minutes = Math.ceil(s / 60);
  if (minutes < 120) return plural(minutes, "minute");
  return `${plural(Math.floor(minutes / 60), "hour")}${minutes % 60 ? ` ${plural(minutes % 60, "minute")}` : ""}`;
}

/**
 * Return a count with its noun: 1 message, 2 messages.
 *
 * @param {number} number
 * @param {string} one
 * @param {string} [more]
 */
export const plural = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

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
    const { leave } = await import("./sign_out.js");
    if (await leave(signOut.dataset.person ?? "")) signOut.submit();
  } catch {
    signOut.submit(); // the gateway was updated, or cannot be reached: the answer says so
  }
});

// Whom the page was made for. Its browser may sign in or out in another tab.

/** The event by which the page learns that its visitor is another one now. */
export const SESSION_EVENT = "roxy-session";

/** The event by which such a page learns that its own visitor is signed in again. */
export const RETURN_EVENT = "roxy-return";

/**
 * What has become of the session: in words, and whether loading the page again is enough.
 *
 * @typedef {{ text: string, changed: boolean }} SessionEnd
 */

/**
 * Return what the server has put into the head of the page.
 *
 * @param {"xsrf" | "visitor"} name
 */
export const pageMeta = (name) => document.querySelector(`meta[name="roxy-${name}"]`)?.getAttribute("content") ?? "";

let hasEnded = false;

/**
 * Let the page know that its visitor is another one now.
 *
 * @param {string} text
 * @param {boolean} changed
 */
export function sessionEnded(text, changed) {
  hasEnded = true;
  /** @type {SessionEnd} */
  const detail = { text, changed };
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
    if (!who || data === who) return;
    if (who === "guest") {
      if (data) sessionEnded("You have signed in in another tab. Reload the page to continue.", true);
    } else if (!data || data === "guest") {
      sessionEnded("You signed out in another tab. Sign in again to continue.", false);
    } else sessionEnded("This browser is now signed in with another key. Reload the page to continue.", true);
  };
  pages.postMessage(who);
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
