// The menu of a button: what else can be done with a turn.

import { el, icon } from "../../shell/page.js";

/** @typedef {{ icon: string, label: string, run: () => void }} MenuItem */

const EDGE_PX = 4;

/**
 * Show a menu at a button; the focus goes into it, and back to the button.
 *
 * @param {HTMLElement} button
 * @param {string} label
 * @param {MenuItem[]} items
 */
export function openMenu(button, label, items) {
  const menu = el("div", { popover: "auto", role: "menu", class: "menu", "aria-label": label });
  for (const item of items) {
    const onclick = () => {
      menu.hidePopover();
      button.focus();
      item.run();
    };
    menu.append(el("button", { type: "button", role: "menuitem", onclick }, icon(item.icon), item.label));
  }
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState === "closed") menu.remove();
  });
  menu.addEventListener("keydown", (event) => moveInside(menu, event));
  (button.closest("main") ?? document.body).append(menu);
  menu.showPopover({ source: button });
  const { bottom, top, right } = button.getBoundingClientRect();
  const below = bottom + menu.offsetHeight < innerHeight;
  const widest = innerWidth - menu.offsetWidth - EDGE_PX;
  menu.style.top = `${below ? bottom + 2 : Math.max(top - menu.offsetHeight - 2, EDGE_PX)}px`;
  menu.style.left = `${Math.max(Math.min(right - menu.offsetWidth, widest), EDGE_PX)}px`;
  menu.querySelector("button")?.focus();
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
