// Scrolling: the end stays in view while text arrives, unless the reader has scrolled up.

const NEAR_END_PX = 48;

/** Scrolls `scroller` to the end of `content`, and shows `button` where the reader is elsewhere. */
export class Follower {
  #scroller;
  #content;
  #button;
  #following = true;
  /** The position that was last set from here. */
  #position = 0;

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
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.#leave(), { passive: true });
    button.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#resized()).observe(content);
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

  #resized() {
    if (this.#following && this.#content.childElementCount) this.toEnd();
    else this.#showButton();
  }

  #showButton() {
    this.#button.hidden = this.#gap <= NEAR_END_PX || !this.#content.childElementCount;
  }

  #leave() {
    if (this.#scroller.scrollHeight <= this.#scroller.clientHeight) return;
    this.#following = false;
    this.#showButton();
  }

  /** Compare with the position set from here: above it, the reader has scrolled. */
  #scrolled() {
    const above = this.#scroller.scrollTop < this.#position - 2;
    if (this.#following && above && this.#gap > NEAR_END_PX) this.#leave();
    else if (!this.#following && this.#gap <= 2) this.toEnd();
    else if (!this.#following) this.#showButton();
  }
}
