// The page of keys: its forms in a dialog beside the list, and the list brought up to date in place.
//
// Links and forms are those of the pages without a script. What the server answers is read as a
// document: a part marked `data-panel` goes into the dialog, one marked `data-list` in the list's
// place. A secret is in the dialog alone, and leaves the page with it.

import { announce, copyFrom, el, iconButton } from "../shell/page.js";

const dialog = document.querySelector("dialog.side");
let opened = null;
let busy = false;

/** Ask for a page, as a document. */
function ask(method, url, body = null) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "document";
    if (body) request.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
    request.onload = () =>
      resolve({ status: request.status, url: new URL(request.responseURL), page: request.response });
    request.onerror = () => reject(new Error("The server cannot be reached. Try again."));
    request.send(body);
  });
}

/** Put an answer where it belongs; one that is neither panel nor list is told beside `place`. */
function take(answer, place) {
  const panel = answer.page?.querySelector("[data-panel]");
  const list = answer.page?.querySelector("[data-list]");
  if (answer.url.pathname === "/login" || answer.status === 401) location.assign("/login?next=/keys");
  else if (panel) showPanel(panel);
  else if (list) {
    replaceList(list);
    history.replaceState(null, "", answer.url);
    shut();
    return true;
  } else complain(place, answer.page?.querySelector("main p")?.textContent ?? "The server failed. Try again.");
  return false;
}

function showPanel(sent) {
  const panel = document.importNode(sent, true);
  const heading = panel.querySelector("h1");
  const title = el("h2", { id: "panel-title", tabindex: "-1", class: "named" }, ...heading.childNodes);
  heading.replaceWith(title);
  const head = el("div", { class: "head" }, iconButton("x", "Close", { "data-close": true }));
  title.before(head);
  head.prepend(title);
  dialog.replaceChildren(panel);
  showCopying(dialog);
  if (!dialog.open) dialog.showModal();
  const first = panel.querySelector("[aria-invalid=true]") ?? (panel.matches("[data-secret]") ? title : null);
  (first ?? panel.querySelector("form input:not([type=hidden]), form select") ?? title).focus();
  dialog.scrollTop = 0;
  if (panel.matches("[data-secret]")) refresh();
}

/** Close the dialog. Its event of that comes with the next frame, too late for whoever types on at once. */
function shut() {
  dialog.close();
  dialog.replaceChildren();
  focusOpened();
}

/** Bring the list up to date behind the dialog: what was made now stands in it. */
async function refresh() {
  try {
    const answer = await ask("GET", "/keys");
    const list = answer.page?.querySelector("[data-list]");
    if (!list) return;
    replaceList(list);
    history.replaceState(null, "", "/keys");
  } catch {
    // The list is old until the page is loaded again.
  }
}

function replaceList(list) {
  const old = document.querySelector("[data-list]");
  const focused = old.contains(document.activeElement);
  old.replaceWith(document.importNode(list, true));
  if (focused) focusOpened();
}

function complain(place, text) {
  place.querySelector(":scope > .alert")?.remove();
  place.prepend(el("p", { class: "alert", role: "alert" }, text));
}

/** Remember a control of the list, to find it again in a list that has been replaced. */
function remember(control) {
  if (dialog.contains(control)) return;
  opened = { key: control.closest("[data-key]")?.dataset.key, act: control.dataset.act };
}

function focusOpened() {
  if (!opened) return;
  const row = opened.key && document.querySelector(`[data-key="${opened.key}"]`);
  const control = (row || document).querySelector(`[data-act="${row || !opened.key ? opened.act : "new"}"]`);
  control?.focus();
}

async function open(link) {
  remember(link);
  try {
    take(await ask("GET", link.href), document.querySelector("[data-list]"));
  } catch {
    location.assign(link.href);
  }
}

async function send(form, button) {
  if (busy) return;
  busy = true;
  button?.setAttribute("aria-disabled", "true");
  const inDialog = dialog.contains(form);
  if (button) remember(button);
  const place = inDialog ? form : document.querySelector("[data-list]");
  try {
    const done = take(await ask("POST", form.action, new URLSearchParams(new FormData(form))), place);
    if (done) announce(form.dataset.done ?? "Done");
  } catch (error) {
    complain(place, error.message);
  } finally {
    busy = false;
    button?.removeAttribute("aria-disabled");
  }
}

function fill(link) {
  const form = link.closest("[data-panel]").querySelector("form");
  for (const [name, value] of Object.entries(JSON.parse(link.dataset.fill))) form.elements[name].value = value;
  for (const other of link.closest("ul").querySelectorAll("a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  form.elements.name.focus();
}

function showCopying(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copyFrom(button, document.getElementById(button.dataset.copy).textContent));
  }
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)
    return;
  const control = event.target.closest("a, button");
  if (!control) return;
  if (control.dataset.fill) fill(control);
  else if (dialog && control.dataset.close !== undefined) shut();
  else if (dialog && control.dataset.dialog !== undefined) open(control);
  else return;
  event.preventDefault();
});

if (dialog) {
  document.addEventListener("submit", (event) => {
    if (!event.target.closest("[data-list], dialog.side")) return;
    event.preventDefault();
    send(event.target, event.submitter);
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    shut();
  });
  dialog.addEventListener("close", () => {
    if (!dialog.open && dialog.childElementCount) shut(); // the browser closed it without asking
  });
  addEventListener("pagehide", () => {
    dialog.close();
    dialog.replaceChildren();
  });
}
showCopying(document);
