// The chat page: builds the state and its views, loads what the first paint does not need, and has the
// commands that concern the whole page.

import {
  announce,
  DIALOGS_EVENT,
  fill,
  isComposing,
  NOT_LOADED_EVENT,
  part,
  REACHABLE_EVENT,
  RETURN_EVENT,
  SESSION_EVENT,
  sessionEnded,
  texts,
} from "../shell/page.js";
import { Composer } from "./composer/composer.js";
import { Header, placeChatActs, SideSheet } from "./header.js";
import { Chat } from "./state/chat.js";
import { Database, GUESTS, isPersistent, keepAt } from "./state/store.js";

/** @import { Reason, SessionEnd } from "../shell/page.js" */
/** @import { Answers } from "./state/answers.js" */
/** @import { ConversationList } from "./sidebar/list.js" */
/** @import { Action, Boot } from "./state/types.js" */
/** @import { PromptList } from "./prompts/prompt_list.js" */
/** @import { Transcript } from "./transcript/transcript.js" */

/** How long a sign-out waits until everything is saved. */
const FLUSH_MS = 4000;
/** For what was not asked for just now. */
const PATIENT = { patient: true };
const sidebar = part("#sidebar", HTMLElement);
const side = new SideSheet();
const scroller = part("#scroller", HTMLElement);

/** @type {Boot} */
const boot = JSON.parse(part("#main", HTMLElement).dataset.boot ?? "");
const chat = new Chat(boot, importTranscript);
const composer = new Composer(part("#composer", HTMLFormElement), chat, {
  perform,
  editLast: () => transcript?.editLast() ?? false,
});
new Header(chat, {
  chooseModel,
  newChat: () => chat.open(null),
  setModel: (id) => {
    setModel(id);
    composer.focus();
  },
  fill: async (prompt) => {
    composer.fill(prompt);
    if (prompt.includes("{{")) (await loadPrompts()).fillIn();
  },
});
/** @type {Transcript | null} */
let transcript = null;
/** @type {Promise<PromptList> | null} */
let prompts = null;
/** @type {ConversationList | null} */
let list = null;

// Loading

/** @returns {Promise<(answers: Answers) => void>} */
async function importTranscript() {
  const { Transcript } = await import("./transcript/transcript.js");
  return (answers) => {
    transcript = new Transcript(chat, answers, (name) => perform({ name: /** @type {Action["name"]} */ (name) }));
  };
}

async function loadList() {
  const { ConversationList } = await chat.load(() => import("./sidebar/list.js"), PATIENT);
  await watchElsewhere();
  list = new ConversationList(sidebar, chat, help);
  await list.reload();
  if (boot.history.left) {
    const { leftOnServer } = await chat.load(() => import("./sidebar/left_on_server.js"), PATIENT);
    sidebar.append(leftOnServer(boot.history.left));
  }
}

/**
 * Offer to move the conversations of this browser to the history on the server: once, or when asked for.
 *
 * @param {boolean} wanted
 */
async function offerToMove(wanted) {
  const { history } = chat;
  if (!history && !boot.history.person) {
    const { showLost } = await chat.load(() => import("./sidebar/lost.js"), PATIENT);
    await showLost(chat);
  }
  if (!history || chat.ended) return;
  const { Offer } = await chat.load(() => import("./history/offer.js"), PATIENT);
  const offer = new Offer(chat, history);
  const count = await offer.look();
  const moved = count && (wanted || (await offer.isNew())) ? await offer.ask() : [];
  list?.showMovable(count - moved.length, () => offerToMove(true));
  if (moved.includes(firstId ?? "")) await chat.open(firstId, { push: false });
}

/** Load the list of prompts, once it is wanted; from then on it listens itself. */
function loadPrompts() {
  prompts ??= chat
    .load(() => import("./prompts/prompt_list.js"))
    .then(({ PromptList }) => new PromptList(part("#composer", HTMLFormElement), chat, boot.prompts))
    .catch((error) => {
      prompts = null; // the next time it is wanted it is asked for again
      throw error;
    });
  return prompts;
}

/** Load what is needed soon, while the page is idle. What asks and shows answers comes with the first letter. */
async function loadRest() {
  const { listenToShortcuts } = await chat.load(() => import("./shortcuts.js"), PATIENT);
  listenToShortcuts({
    search,
    toggleSidebar: () => side.toggle(),
    help,
    newChat: () => chat.open(null),
    chooseModel,
    copyLast: () => transcript?.copyLast(),
    settings,
    escape: escapePressed,
    focusMessage: () => composer.focusText(),
  });
  document.documentElement.dataset.ready = "keys"; // shortcuts are heard from now on
}

/** Watch the connection as soon as possible: what says that it is lost cannot be loaded without it. */
async function loadConnection() {
  const { sayWhenOffline } = await chat.load(() => import("./offline.js"), PATIENT);
  sayWhenOffline(part("#composer", HTMLElement));
}

// Commands

/** @param {string} id */
function setModel(id) {
  chat.setModel(id);
  announce(fill(texts.chat.model, { name: chat.modelName(id) }));
}

async function chooseModel() {
  const { pickModel } = await chat.load(() => import("./dialogs/picker.js"));
  const id = await pickModel(boot.models, chat.current?.record.model ?? "");
  if (id) setModel(id);
}

async function settings() {
  const { showSettings } = await chat.load(() => import("./dialogs/settings.js"));
  const { current } = chat;
  const next = async () => {
    const { nextRequest } = await chat.load(() => import("./state/request.js"));
    return nextRequest(chat, composer.content);
  };
  if (current) showSettings(chat, current.record, next);
}

async function help() {
  const { showHelp } = await chat.load(() => import("./dialogs/help.js"));
  showHelp(chat.enterKey);
}

function search() {
  side.toggle(true);
  const box = sidebar.querySelector('input[type="search"]');
  if (box instanceof HTMLElement) box.focus();
}

function escapePressed() {
  if (side.isSheet) side.toggle(false);
  else chat.stop();
}

/**
 * Perform an action that a problem or a refusal offers.
 *
 * @param {Pick<Action, "name" | "model" | "run">} action
 */
function perform({ name, model, run }) {
  /** @type {Partial<Record<Action["name"], () => void>>} those that come without `run` */
  const actions = {
    again: () => composer.submit(),
    export: () => list?.exportAll(),
    model: chooseModel,
    new: () => composer.toNewChat(),
    reload: () => location.reload(),
    // A temporary chat would be gone with its page.
    signIn: () =>
      chat.current?.record.temporary ? open("/login", "_blank") : location.assign(`/login?next=${location.pathname}`),
    switchModel: () => model && setModel(model),
  };
  (run ?? actions[name])?.();
}

// The page's address and the browser's history

const openId = () => (chat.current?.started && !chat.current.record.temporary ? chat.current.id : null);
const idInAddress = () => /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;

/** @param {{ path: string, push: boolean }} address */
function showAddress(address) {
  const { path, push } = address;
  if (history.state?.dialogs) document.addEventListener(DIALOGS_EVENT, () => showAddress(address), { once: true });
  else if (push) side.push(path);
  else if (path !== location.pathname) history.replaceState(null, "", path);
}
if (history.state?.dialogs) history.replaceState(null, ""); // reloaded while one was open
chat.on("address", showAddress);
addEventListener("popstate", () => {
  if (!side.popped() && idInAddress() !== openId()) chat.open(idInAddress(), { push: false });
});

// What is left to listen to

document.addEventListener(NOT_LOADED_EVENT, (event) => {
  if (!(event instanceof CustomEvent)) return;
  /** @type {Reason} */
  const reason = event.detail;
  if (reason === "away") {
    chat.report({ text: texts.problems.part_away, until: REACHABLE_EVENT });
    return;
  }
  let text = reason === "updated" ? texts.problems.part_updated : texts.problems.part_failed;
  if (chat.current?.record.temporary) text = texts.problems.part_temporary;
  chat.report({ text, action: { name: "reload", label: texts.problems.reload } });
});

/** @param {SessionEnd} end */
function endSession({ text, changed, ofKey }) {
  const label = ofKey ? texts.answers.sign_in_other : texts.answers.sign_in;
  /** @type {Action} */
  const action = changed ? { name: "reload", label: texts.problems.reload } : { name: "signIn", label };
  chat.endSession({ text, action });
}

document.addEventListener(SESSION_EVENT, (event) => {
  if (!(event instanceof CustomEvent)) return;
  endSession(event.detail);
  announce(event.detail.text);
});

/** Say that the session had ended before the page was made: it is the person's own page, not a guest's. */
function sayIfEnded() {
  const { ended } = document.body.dataset;
  if (ended === undefined) return;
  const { key_revoked: revoked, key_disabled: disabled, key_expired: expired } = texts.page;
  /** @type {Record<string, string>} */
  const reasons = { revoked, disabled, expired };
  sessionEnded(reasons[ended] ?? texts.page.signed_out, false, ended in reasons);
}

document.addEventListener(RETURN_EVENT, async () => {
  if (chat.current?.record.temporary) {
    const { renewPage } = await chat.load(() => import("./turns/page_renewal.js"), PATIENT);
    await renewPage();
    chat.resumeSession();
  } else endSession({ text: texts.chat.signed_in_reload, changed: true, ofKey: false });
  announce(texts.chat.signed_in_again);
});

chat.on("opened", ({ keepFocus }) => {
  if (!chat.current?.started) scroller.scrollTop = 0;
  if (keepFocus) return;
  side.closeSheet();
  composer.focus();
});
chat.on("modelNeeded", chooseModel);
// A title is asked for by the tab that has asked for the answer, also after it was reloaded meanwhile.
const askedKey = (/** @type {string} */ id) => `roxy-asked ${id}`;
chat.on("asked", ({ id }) => {
  try {
    if (boot.title_model) sessionStorage.setItem(askedKey(id), "");
  } catch {
    // Without a session storage there is no title by a model.
  }
});
chat.on("end", async ({ message }) => {
  if (!boot.title_model || sessionStorage.getItem(askedKey(message.id)) === null) return;
  sessionStorage.removeItem(askedKey(message.id));
  if (message.state !== "done") return;
  const { askTitle } = await chat.load(() => import("./turns/titling.js"), PATIENT);
  await askTitle(chat, message, boot.title_model);
});
chat.on("passage", async (passage) => {
  side.closeSheet();
  const { showPassage } = await chat.load(() => import("./transcript/passage.js"));
  showPassage(part("#transcript", HTMLElement), passage);
});
chat.on("leaving", () => CSS.highlights?.delete("found"));
const temporary = part("#temporary", HTMLElement);
temporary.addEventListener("click", async () => {
  const { toggleTemporary } = await chat.load(() => import("./turns/temporary.js"));
  await toggleTemporary(chat, composer.content);
});
for (const event of /** @type {const} */ (["opened", "messages"])) {
  chat.on(event, () => {
    const isTemporary = Boolean(chat.current?.record.temporary);
    temporary.hidden = !isTemporary && Boolean(chat.current?.started);
    temporary.setAttribute("aria-pressed", String(isTemporary));
    part("#temporary-note", HTMLElement).hidden = !isTemporary;
  });
}
part("#settings", HTMLElement).addEventListener("click", settings);
placeChatActs();
part('[data-part="prompts"]', HTMLElement).addEventListener("click", async () => (await loadPrompts()).toggle());
const message = part("#message", HTMLTextAreaElement);
/** Whether Enter was pressed while the list of prompts was on its way: half a name must not be sent. */
let entered = false;
message.addEventListener("input", async () => {
  entered = false;
  if (prompts || !message.value.startsWith("/")) return;
  const hold = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.shiftKey || isComposing(event)) return;
    entered = true;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  message.addEventListener("keydown", hold, true);
  try {
    (await loadPrompts()).typed(entered);
  } finally {
    message.removeEventListener("keydown", hold, true);
  }
});

/**
 * Decide where conversations are: on the server, or in this browser, apart from those of others. A new chat can
 * be written before the history on the server is loaded.
 */
function choosePlace() {
  const { place, person } = boot.history;
  if (!person) return;
  const database = new Database(`${GUESTS}-${person}`);
  keepAt(database);
  document.addEventListener("roxy-sign-out", (event) => {
    /** @type {{ before: Promise<unknown>[], after: (() => unknown)[] }} */
    const { before, after } = /** @type {CustomEvent} */ (event).detail;
    if (chat.history) before.push(chat.history.connection.flush(FLUSH_MS));
    after.push(() => (chat.history ?? database).leave());
  });
  if (place === "server") chat.joining = firstId ? join(database) : usable.then(() => join(database));
}

async function watchElsewhere() {
  const { Elsewhere } = await chat.load(() => import("./state/elsewhere.js"), PATIENT);
  chat.elsewhere ??= new Elsewhere(chat);
  if (chat.missedChange) chat.elsewhere.changed(null);
  chat.missedChange = false;
  return chat.elsewhere;
}

/** @param {Database} database */
async function join(database) {
  const { Remote } = await chat.load(() => import("./history/remote.js"), PATIENT);
  const remote = new Remote(boot.history.person, database);
  keepAt(remote);
  chat.history = remote;
  (await watchElsewhere()).follow(remote);
}

/** Resolves `usable`. @type {() => void} */
let nowUsable = () => {};
/** Done once a message can be written. @type {Promise<void>} */
const usable = new Promise((resolve) => {
  nowUsable = resolve;
});

/** The conversation in the address that the page was opened with. */
const firstId = idInAddress();

/** Put the question in the address into the message box: `/?q=`. It is never sent from here. */
function prefill() {
  const asked = new URLSearchParams(location.search).get("q");
  if (!asked || location.pathname !== "/") return;
  composer.fill([asked, composer.content?.text].filter(Boolean).join("\n\n"));
  history.replaceState(null, "", "/");
}

async function start() {
  choosePlace();
  sayIfEnded();
  await chat.readSettings();
  await chat.open(idInAddress(), { push: false });
  prefill();
  performance.mark("roxy-ready");
  nowUsable();
  document.documentElement.dataset.ready = "";
  loadConnection();
  await chat.joining;
  if (!chat.history && !(await isPersistent())) {
    chat.report({ text: texts.chat.nothing_stored });
  }
  await loadList();
  (window.requestIdleCallback ?? setTimeout)(async () => {
    await loadRest();
    await offerToMove(false);
  });
}

start();
