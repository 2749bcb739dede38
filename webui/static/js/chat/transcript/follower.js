// Scrolling: the end stays in view while text arrives, unless the reader has scrolled up.
//
// A position above the one that was set here comes from the reader, whatever it was made with: a wheel, a
// finger, a key, the scrollbar, a search in the page. A wheel, a finger and keys begin slowly, and a
// position that is set meanwhile would end their movement: they count from their first event on.

const NEAR_END_PX = 48;
/** Positions are fractions on some screens. */
const ROUNDING_PX = 1;
/** A finger that has moved so far scrolls. */
const FINGER_PX = 4;
/** Between the edge and what is shown from its start. */
const START_PX = 12;
const FIELDS = "input, textarea, select, [contenteditable]";

/**
 * True for a key that scrolls up.
 *
 * @param {KeyboardEvent} event
 */
function goesUp({ key, shiftKey, target }) {
  if (target instanceof Element && target.closest(FIELDS)) return false;
  if (key === " ") return shiftKey && !(target instanceof Element && target.closest("button, summary, a"));
  return key === "ArrowUp" || key === "PageUp" || key === "Home";
}

/** Scrolls `scroller` to the end of `content`, and shows `button` where the reader is elsewhere. */
export class Follower {
  #scroller;
  #content;
  #button;
  #following = true;
  /** The position that was last set from here; once the reader has left, the last one seen. */
  #position = 0;
  /** Where the finger is that touches the scroller. */
  #finger = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content
   * @param {HTMLElement} button
   */
  constructor(scroller, content, button) {
    this.#scroller = scroller;
    this.#content = content;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && !event.ctrlKey && this.#leave(event), {
      passive: true,
    });
    scroller.addEventListener("touchstart", (event) => this.#touched(event), { passive: true });
    scroller.addEventListener("touchmove", (event) => this.#touched(event), { passive: true });
    scroller.addEventListener("keydown", (event) => goesUp(event) && this.#leave(event));
    button.addEventListener("click", () => this.toEnd());
    const sizes = new ResizeObserver(() => this.#resized());
    sizes.observe(content);
    sizes.observe(scroller); // the box below grows with its text, and phones open a keyboard
  }

  get #gap() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** Scroll to the end and follow it. */
  toEnd() {
    this.#following = true;
    this.#button.hidden = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#position = this.#scroller.scrollTop;
  }

  /**
   * Keep a row where another one stood: what follows it has changed, and the reader looks at it.
   *
   * @param {HTMLElement} row
   * @param {number} top
   */
  keep(row, top) {
    this.#following = false;
    this.#scroller.scrollTop += row.getBoundingClientRect().top - top;
    this.#position = this.#scroller.scrollTop;
    if (this.#gap <= NEAR_END_PX) this.toEnd();
    else this.#showButton();
  }

  /**
   * Show where something begins. It is followed only where its end is in view, too.
   *
   * @param {HTMLElement} root
   */
  showStart(root) {
    this.keep(root, this.#scroller.getBoundingClientRect().top + START_PX);
  }

  #resized() {
    if (this.#following && this.#content.childElementCount) this.toEnd();
    else this.#showButton();
  }

  #showButton() {
    this.#button.hidden = this.#gap <= NEAR_END_PX || !this.#content.childElementCount;
  }

  /** @param {TouchEvent} event */
  #touched(event) {
    const { clientY } = event.touches[0];
    const moved = clientY - this.#finger;
    if (event.type === "touchstart" || moved < 0) this.#finger = clientY;
    else if (moved >= FINGER_PX) this.#leave(event);
  }

  /**
   * Leave the reader alone. `event` may scroll something else: a long code block inside, say.
   *
   * @param {Event} [event]
   */
  #leave(event) {
    const scroller = this.#scroller;
    if (!this.#following || scroller.scrollHeight <= scroller.clientHeight) return;
    const path = event?.composedPath() ?? [];
    const inside = path.slice(0, path.indexOf(scroller));
    if (inside.some((node) => node instanceof Element && node.scrollTop > 0)) return;
    this.#following = false;
    this.#showButton();
  }

  /** Compare with the last position: above it, the reader has scrolled up; below it, perhaps to the end. */
  #scrolled() {
    const moved = this.#scroller.scrollTop - this.#position;
    const atEnd = this.#gap <= ROUNDING_PX * 2;
    if (moved < -ROUNDING_PX && !atEnd) this.#leave();
    else if (moved > 0 && atEnd && !this.#following) this.toEnd();
    if (this.#following) return; // small steps add up, as long as the position is the one set here
    this.#position = this.#scroller.scrollTop;
    this.#showButton();
  }
}
