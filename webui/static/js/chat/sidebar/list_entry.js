// One conversation in the list as components: its link and its buttons, or the box for its new title.

import { html, useLayoutEffect, useRef } from "../../../vendor/preact-htm.js";
import { fill, iconPath, isComposing, texts } from "../../shell/page.js";
import { MarkedTitle, Passages } from "./results.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { ConversationRecord } from "../state/types.js" */
/** @import { ConversationList } from "./list.js" */
/** @import { Result } from "./results.js" */
/** @import { Hit } from "./search.js" */

/** @typedef {{ one: ConversationRecord, button: HTMLElement }} OpenMenu */

/**
 * Where an entry stands in its list: `at` of `count`, with so many pixels left free before it.
 *
 * @typedef {{ at: number, count: number, gap: number }} Standing
 */

/** @param {{ name: string }} props */
export const Icon = ({ name }) => html`<svg class="icon" aria-hidden="true"><use href=${iconPath(name)} /></svg>`;

/**
 * Return the title as it is shown.
 *
 * @param {{ title: string }} one
 */
export const titleOf = ({ title }) => title || texts.sidebar.new_chat;

/** @param {{ one: ConversationRecord, list: ConversationList, close: () => void }} props */
function Rename({ one, list, close }) {
  /** @type {Ref<HTMLInputElement | null>} */
  const box = useRef(null);
  // At once, not after the next frame: the first keys are for this box.
  useLayoutEffect(() => {
    box.current?.focus();
    box.current?.select();
  }, []);
  /** @param {boolean} save */
  const done = (save) => {
    const title = box.current?.value.trim(); // closing takes the focus away, and calls this again
    close();
    if (save && title && title !== one.title) list.rename(one, title);
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    if (isComposing(event)) return;
    if (event.key === "Enter") done(true);
    if (event.key === "Escape") done(false);
  };
  // Not `value`: what is typed must survive the next rendering of the list.
  return html`<input ref=${box} aria-label=${texts.sidebar.new_title} maxlength="500" dir="auto"
    defaultValue=${one.title} autofocus onKeyDown=${pressed} onBlur=${() => done(true)} />`;
}

/**
 * @param {object} props
 * @param {ConversationRecord} props.one
 * @param {Standing} props.standing
 * @param {boolean} props.isCurrent
 * @param {boolean} props.isAnswering
 * @param {boolean} props.isRenaming
 * @param {ConversationList} props.list
 * @param {(menu: OpenMenu) => void} props.openMenu
 * @param {() => void} props.endRenaming
 * @param {Result} [props.result] what a search has found in it
 * @param {string} [props.wanted] what was searched for
 */
export function Entry(props) {
  const { one, standing, isCurrent, isAnswering, isRenaming, list, openMenu, endRenaming, result, wanted } = props;
  const title = titleOf(one);
  const { at, count, gap } = standing;
  /** @param {MouseEvent} event */
  const go = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (result?.first) list.openHit(result.first);
    else list.open(one.id);
  };
  /** @param {{ currentTarget: HTMLElement }} event */
  const more = ({ currentTarget: button }) => openMenu({ one, button });
  const shown = wanted ? html`<${MarkedTitle} title=${title} wanted=${wanted} />` : title;
  const content = isRenaming
    ? html`<${Rename} one=${one} list=${list} close=${endRenaming} />`
    : html`<a href=${`/c/${one.id}`} aria-current=${isCurrent ? "page" : null} title=${title} onClick=${go}>
        <span class="clip" dir="auto">${shown}</span>
      </a>
      ${isAnswering && html`<span class="running" role="img" aria-label=${texts.sidebar.answering}></span>`}
      <button type="button" class="icon-button small" aria-haspopup="menu"
        aria-label=${fill(texts.sidebar.more_for, { title })} onClick=${more}><${Icon} name="ellipsis" /></button>`;
  return html`<li class=${result ? "entry result" : "entry"} data-id=${one.id} aria-setsize=${count}
    aria-posinset=${at + 1} style=${{ marginBlockStart: gap ? `${gap}px` : "" }}>
    ${content}
    ${result && html`<${Passages} result=${result} open=${(/** @type {Hit} */ hit) => list.openHit(hit)} />`}
  </li>`;
}
