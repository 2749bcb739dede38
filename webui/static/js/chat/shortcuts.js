// The keyboard shortcuts of the chat page; help.js lists them.

import { copyText } from "../shell/page.js";

const dialogOpen = () => document.querySelector("dialog[open], :popover-open");
const typing = (target) => target.closest("input, textarea, select, [contenteditable]");

/** Keep the page above the keyboard of phones that lay it over the page (iOS). */
function watchKeyboard() {
  const { visualViewport } = window;
  const fit = () => {
    const covered = innerHeight - visualViewport.height * visualViewport.scale > 80;
    document.body.style.height = covered ? `${visualViewport.height}px` : "";
    if (covered) scrollTo(0, 0);
  };
  visualViewport?.addEventListener("resize", fit);
}

/** Listen for the shortcuts of a chat. */
export function listenToKeys(chat) {
  const search = () => {
    chat.toggleSidebar(true);
    document.querySelector('#sidebar input[type="search"]')?.focus();
  };
  const copyLast = () => {
    const last = chat.session.path.findLast((message) => message.role === "assistant");
    if (last) copyText(last.text);
  };
  const commands = {
    k: search,
    b: () => chat.toggleSidebar(),
    "/": () => chat.help(),
    "shift+o": () => chat.open(null),
    "shift+m": () => chat.chooseModel(),
    "shift+c": copyLast,
    "shift+,": () => chat.showSettings(),
    "shift+<": () => chat.showSettings(),
  };
  watchKeyboard();
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || dialogOpen()) return;
    if (event.key === "Escape") {
      if (document.body.dataset.side === "open" && matchMedia("(max-width: 56rem)").matches) chat.toggleSidebar(false);
      else chat.running()?.stop();
      return;
    }
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !typing(event.target)) {
      event.preventDefault();
      chat.composer.text.focus();
      return;
    }
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const command = commands[(event.shiftKey ? "shift+" : "") + event.key.toLowerCase()];
    if (!command) return;
    event.preventDefault();
    command();
  });
}
