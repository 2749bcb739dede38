// The menu of a button: what can be done with a turn, or with a conversation of the list.

import { el, icon } from "../shell/page.js";

/** @typedef {{ icon: string, label: string, run: () => void }} MenuItem */

/**
 * `scroller` moves the button: the menu closes when it is scrolled. `closed` is called once the menu is gone.
 *
 * @typedef {{ scroller?: Element | null, closed?: () => void }} MenuOptions
 */

const EDGE_PX = 4;

/**
 * Show a menu at a button; the focus goes into it, and back to the button.
 *
 * @param {HTMLElement} button
 * @param {string} label
 * @param {MenuItem[]} items
 * @param {MenuOptions} [options]
 */
export function openMenu(button, label, items, { scroller, closed } = {}) {
  const menu = el("div", { popover: "auto", role: "menu", class: "menu", "aria-label": label });
  for (const item of items) {
    const onclick = () => {
      menu.hidePopover();
      button.focus({ preventScroll: true });
      item.run();
    };
    menu.append(el("button", { type: "button", role: "menuitem", onclick }, icon(item.icon), item.label));
  }
  const hide = () => menu.hidePopover();
  scroller?.addEventListener("scroll", hide, { capture: true, passive: true });
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    scroller?.removeEventListener("scroll", hide, { capture: true });
    menu.remove();
    closed?.();
  });
  menu.addEventListener("keydown", (event) => moveInside(menu, event));
  (button.closest("main, aside") ?? document.body).append(menu);
  menu.showPopover({ source: button });
  placeAt(menu, button);
  menu.querySelector("button")?.focus({ preventScroll: true });
}

/**
 * Place a menu below its button, or above it where there is no room below.
 *
 * @param {HTMLElement} menu
 * @param {HTMLElement} button
 */
function placeAt(menu, button) {
  const { bottom, top, right } = button.getBoundingClientRect();
  const below = bottom + menu.offsetHeight < innerHeight;
  const widest = innerWidth - menu.offsetWidth - EDGE_PX;
  menu.style.top = `${below ? bottom + 2 : Math.max(top - menu.offsetHeight - 2, EDGE_PX)}px`;
  menu.style.left = `${Math.max(Math.min(right - menu.offsetWidth, widest), EDGE_PX)}px`;
}

/**
 * @param {HTMLElement} menu
 * @param {KeyboardEvent} event
 */
function moveInside(menu, event) {
  const items = [...menu.querySelectorAll("button")];
  const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  /** @type {Record<string, number>} */
  const places = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
  if (event.key === "Tab") menu.hidePopover();
  else if (event.key in places) {
    event.preventDefault();
    items.at(places[event.key] % items.length)?.focus();
  }
}
