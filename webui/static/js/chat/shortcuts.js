// The keyboard shortcuts of the chat page; dialogs/help.js lists them.

/**
 * What the shortcuts do.
 *
 * @typedef {object} Commands
 * @property {() => void} search
 * @property {() => void} toggleSidebar
 * @property {() => void} help
 * @property {() => void} newChat
 * @property {() => void} chooseModel
 * @property {() => void} copyLast
 * @property {() => void} settings
 * @property {() => void} escape
 * @property {() => void} focusMessage
 */

const isDialogOpen = () => document.querySelector("dialog[open], :popover-open") !== null;

/** @param {EventTarget | null} target */
const isField = (target) =>
  target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;

/** Keep the page above the on-screen keyboard of phones that lay it over the page (iOS). */
function watchKeyboard() {
  const { visualViewport } = window;
  visualViewport?.addEventListener("resize", () => {
    const covered = innerHeight - visualViewport.height * visualViewport.scale > 80;
    document.body.style.height = covered ? `${visualViewport.height}px` : "";
    if (covered) scrollTo(0, 0);
  });
}

/**
 * Listen for the shortcuts.
 *
 * @param {Commands} commands
 */
export function listenToShortcuts(commands) {
  /** @type {Record<string, () => void>} */
  const byKey = {
    k: commands.search,
    b: commands.toggleSidebar,
    "/": commands.help,
    "shift+o": commands.newChat,
    "shift+m": commands.chooseModel,
    "shift+c": commands.copyLast,
    "shift+,": commands.settings,
    "shift+<": commands.settings,
  };
  watchKeyboard();
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || isDialogOpen()) return;
    if (event.key === "Escape") {
      commands.escape();
      return;
    }
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !isField(event.target)) {
      event.preventDefault();
      commands.focusMessage();
      return;
    }
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const command = byKey[(event.shiftKey ? "shift+" : "") + event.key.toLowerCase()];
    if (!command) return;
    event.preventDefault();
    command();
  });
}
