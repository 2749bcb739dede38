// The menu of a conversation in the list.

import { html, useEffect, useRef } from "../../../vendor/preact-htm.js";
import { texts } from "../../shell/page.js";
import { Icon } from "./list_entry.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { ConversationList } from "./list.js" */
/** @import { OpenMenu } from "./list_entry.js" */

/**
 * Place a menu at its button, and move the focus into it.
 *
 * @param {HTMLElement} menu
 * @param {HTMLElement} button
 */
function showMenu(menu, button) {
  menu.showPopover({ source: button });
  const { bottom, top, right } = button.getBoundingClientRect();
  const below = bottom + menu.offsetHeight < innerHeight;
  menu.style.top = `${below ? bottom + 2 : Math.max(top - menu.offsetHeight - 2, 4)}px`;
  menu.style.left = `${Math.max(Math.min(right - menu.offsetWidth, innerWidth - menu.offsetWidth - 4), 4)}px`;
  menu.querySelector("button")?.focus({ preventScroll: true });
}

/**
 * @param {object} props
 * @param {OpenMenu | null} props.menu
 * @param {() => void} props.close
 * @param {ConversationList} props.list
 * @param {boolean} props.shares whether read-only links may be made
 * @param {(id: string) => void} props.rename
 */
export function Menu({ menu, close, list, shares, rename }) {
  /** @type {Ref<HTMLElement | null>} */
  const box = useRef(null);
  useEffect(() => {
    if (!menu || !box.current) return undefined;
    const { current: shown } = box;
    showMenu(shown, menu.button);
    // The row moves away from under its menu.
    const scroller = menu.button.closest("#sidebar");
    const hide = () => shown.hidePopover();
    scroller?.addEventListener("scroll", hide, { capture: true, passive: true });
    return () => scroller?.removeEventListener("scroll", hide, { capture: true });
  }, [menu]);
  if (!menu) return null;
  const { one, button } = menu;
  /**
   * @param {string} icon
   * @param {string} label
   * @param {() => void} action
   */
  const item = (icon, label, action) => {
    const run = () => {
      box.current?.hidePopover();
      button.focus({ preventScroll: true });
      action();
    };
    return html`<button type="button" role="menuitem" onClick=${run}><${Icon} name=${icon} />${label}</button>`;
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    if (event.key === "Tab") box.current?.hidePopover();
    const items = [...(box.current?.querySelectorAll("button") ?? [])];
    const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const places = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    const place = places[/** @type {keyof typeof places} */ (event.key)];
    if (place === undefined) return;
    event.preventDefault();
    items[(place + items.length) % items.length].focus();
  };
  return html`<div ref=${box} popover="auto" role="menu" class="menu" aria-label=${texts.sidebar.conversation}
    onKeyDown=${pressed} onToggle=${(/** @type {ToggleEvent} */ event) => event.newState === "closed" && close()}>
    ${item("pencil", texts.sidebar.rename, () => rename(one.id))}
    ${item(one.pinned ? "pin-off" : "pin", one.pinned ? texts.sidebar.unpin : texts.sidebar.pin, () => list.pin(one))}
    ${shares && item("link", texts.turns.share_link, () => list.share(one))}
    ${item("download", texts.sidebar.export_json, () => list.exportOne(one, "json"))}
    ${item("file-text", texts.sidebar.export_markdown, () => list.exportOne(one, "markdown"))}
    ${item("trash-2", texts.turns.delete, () => list.remove(one))}
  </div>`;
}
