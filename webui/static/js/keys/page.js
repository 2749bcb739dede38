// The page of keys: its forms in a dialog beside the list, and the list replaced in place.
//
// Links and forms are those of the pages without a script. The server's answers are read as documents:
// a part marked `data-panel` goes into the dialog, one marked `data-list` replaces the list. A secret is
// in the dialog alone, and leaves the page with it.

import { copyFrom } from "../shell/clipboard.js";
import { announce, closest, el, iconButton, part, texts } from "../shell/page.js";
import { mayLeave, release, showOnce } from "./shown_once.js";

/** @typedef {{ status: number, url: URL, page: Document | null }} Answer */

/** @type {HTMLDialogElement | null} absent on the pages of single forms */
const dialog = document.querySelector("dialog.side");
/** @type {{ key?: string, act?: string } | null} the control of the list that was used last */
let opened = null;
let busy = false;

const list = () => part("[data-list]", HTMLElement);

/**
 * Request a page, as a document.
 *
 * @param {"GET" | "POST"} method
 * @param {string} url
 * @param {URLSearchParams | null} [body]
 * @returns {Promise<Answer>}
 */
function request(method, url, body = null) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "document";
    if (body) request.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
    request.onload = () =>
      resolve({ status: request.status, url: new URL(request.responseURL), page: request.response });
    request.onerror = () => reject(new Error(texts.key_dialog.unreachable));
    request.send(body);
  });
}

/**
 * Show an answer: a panel in the dialog, a list in place of the list, anything else as a problem in
 * `place`. Returns true for a list: the form is done.
 *
 * @param {Answer} answer
 * @param {HTMLElement} place
 */
function show(answer, place) {
  const panel = answer.page?.querySelector("[data-panel]");
  const newList = answer.page?.querySelector("[data-list]");
  if (answer.url.pathname === "/login" || answer.status === 401) location.assign("/login?next=/keys");
  else if (panel) showPanel(panel);
  else if (newList) {
    replaceList(newList);
    history.replaceState(null, "", answer.url);
    shut();
    return true;
  } else showProblem(place, answer.page?.querySelector("main p")?.textContent ?? texts.key_dialog.server_failed);
  return false;
}

/** @param {Element} sent */
function showPanel(sent) {
  if (!dialog) return;
  const panel = /** @type {HTMLElement} */ (document.importNode(sent, true));
  const heading = part("h1", HTMLElement, panel);
  const title = el("h2", { id: "panel-title", tabindex: "-1", class: "named" }, ...heading.childNodes);
  heading.replaceWith(title);
  const head = el("div", { class: "head" }, iconButton("x", texts.page.close, { "data-close": true }));
  title.before(head);
  head.prepend(title);
  dialog.replaceChildren(panel);
  enableCopying(dialog);
  if (!dialog.open) dialog.showModal();
  firstFocus(panel, title).focus();
  dialog.scrollTop = 0;
  if (!panel.matches("[data-once]")) return;
  showOnce(panel);
  refresh();
}

/**
 * Return what gets the focus in a new panel: a wrong field, the title above a secret, the first field.
 *
 * @param {Element} panel
 * @param {HTMLElement} title
 */
function firstFocus(panel, title) {
  const wrong = panel.querySelector("[aria-invalid=true]");
  const field = panel.querySelector("form input:not([type=hidden]), form select");
  const first = wrong ?? (panel.matches("[data-once]") ? null : field);
  return first instanceof HTMLElement ? first : title;
}

/** Close the dialog. Its own event comes with the next frame, too late for a key pressed at once. */
function shut() {
  release();
  dialog?.close();
  dialog?.replaceChildren();
  focusOpened();
}

/** Replace the list behind the dialog: it now has the new key. */
async function refresh() {
  try {
    const answer = await request("GET", "/keys");
    const newList = answer.page?.querySelector("[data-list]");
    if (!newList) return;
    replaceList(newList);
    history.replaceState(null, "", "/keys");
  } catch {
    // The list is old until the page is loaded again.
  }
}

/**
 * Return the list of this page or search instead of the first page, to which the server leads after a change.
 *
 * @param {Answer} answer
 * @returns {Promise<Answer>}
 */
async function listedHere(answer) {
  if (!location.search || answer.url.pathname + answer.url.search !== "/keys") return answer;
  const here = await request("GET", location.href).catch(() => answer);
  return here.page?.querySelector("[data-list]") ? here : answer; // a last page may be gone
}

/** @param {Element} sent */
function replaceList(sent) {
  const old = list();
  const focused = old.contains(document.activeElement);
  old.replaceWith(document.importNode(sent, true));
  if (focused) focusOpened();
}

/**
 * @param {HTMLElement} place
 * @param {string} text
 */
function showProblem(place, text) {
  place.querySelector(":scope > .alert")?.remove();
  place.prepend(el("p", { class: "alert", role: "alert" }, text));
}

/**
 * Remember a control of the list, to find it again when the list has been replaced.
 *
 * @param {HTMLElement} control
 */
function remember(control) {
  if (dialog?.contains(control)) return;
  opened = { key: control.closest("[data-key]")?.getAttribute("data-key") ?? undefined, act: control.dataset.act };
}

function focusOpened() {
  if (!opened) return;
  const row = opened.key ? document.querySelector(`[data-key="${opened.key}"]`) : null;
  const act = row || !opened.key ? opened.act : "new";
  /** @type {HTMLElement | null} */
  const control = (row ?? document).querySelector(`[data-act="${act}"]`);
  control?.focus();
}

/** @param {HTMLAnchorElement} link */
async function open(link) {
  remember(link);
  try {
    show(await request("GET", link.href), list());
  } catch {
    location.assign(link.href);
  }
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} button
 */
async function send(form, button) {
  if (busy) return;
  busy = true;
  button?.setAttribute("aria-disabled", "true");
  if (button) remember(button);
  const place = dialog?.contains(form) ? form : list();
  try {
    const body = new URLSearchParams(/** @type {any} */ (new FormData(form, button))); // TypeScript issue 30584
    if (show(await listedHere(await request("POST", form.action, body)), place))
      announce(form.dataset.done ?? texts.key_dialog.done);
  } catch (error) {
    showProblem(place, error instanceof Error ? error.message : String(error));
  } finally {
    busy = false;
    button?.removeAttribute("aria-disabled");
  }
}

/**
 * Fill the form of a panel with the values of a preset.
 *
 * @param {HTMLElement} link
 */
function fill(link) {
  const form = part("form", HTMLFormElement, link.closest("[data-panel]") ?? document);
  for (const [name, value] of Object.entries(JSON.parse(link.dataset.fill ?? "{}"))) {
    const field = form.elements.namedItem(name);
    if (field && "value" in field) field.value = value;
  }
  for (const other of link.closest("ul")?.querySelectorAll("a") ?? []) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  part('[name="name"]', HTMLElement, form).focus();
}

/** @param {ParentNode} root */
function enableCopying(root) {
  /** @type {NodeListOf<HTMLElement>} */
  const buttons = root.querySelectorAll("[data-copy]");
  for (const button of buttons) {
    button.hidden = false;
    const source = () => document.getElementById(button.dataset.copy ?? "")?.textContent ?? "";
    button.addEventListener("click", () => {
      release();
      copyFrom(button, source());
    });
  }
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)
    return;
  const control = closest(event, "a, button");
  if (!control) return;
  if (control.dataset.fill) fill(control);
  else if (dialog && control.dataset.close !== undefined) shut();
  else if (dialog && control instanceof HTMLAnchorElement && control.dataset.dialog !== undefined) open(control);
  else return;
  event.preventDefault();
});

if (dialog) {
  document.addEventListener("submit", (event) => {
    if (!(event.target instanceof HTMLFormElement) || !closest(event, "[data-list], dialog.side")) return;
    if (event.target.method !== "post") return; // the search leads to another list
    event.preventDefault();
    send(event.target, event.submitter);
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (mayLeave()) shut();
  });
  dialog.addEventListener("close", () => {
    if (!dialog.open && dialog.childElementCount) shut(); // the browser closed it without asking
  });
  addEventListener("pagehide", () => {
    dialog.close();
    dialog.replaceChildren();
  });
}
document.addEventListener("copy", release); // by hand
enableCopying(document);
const shown = document.querySelector("[data-once]");
if (shown instanceof HTMLElement) showOnce(shown);
