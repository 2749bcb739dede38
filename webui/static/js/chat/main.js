// The chat page: joins the composer, the transcript, the list of conversations and the gateway.

import { Answer, actionFor, endWords, explain, plainError } from "./state/answer.js";
import { Composer, storedCard } from "./composer/composer.js";
import { announce, money, short } from "../shell/page.js";
import { Session, left, standing, storedFiles } from "./state/session.js";
import { NoRoom, find, keeps, put } from "./state/store.js";
import { callJson } from "../shell/stream.js";
import { Transcript, loadMarkdown } from "./transcript/transcript.js";

const LAST_MODEL = "roxy-model";
const byId = (id) => document.getElementById(id);
const boot = JSON.parse(byId("main").dataset.boot);
const narrow = matchMedia("(max-width: 56rem)");

const idOfPage = () => /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;

class Chat {
  constructor() {
    this.models = new Map(boot.models.map((model) => [model.id, model]));
    this.visitor = boot.visitor;
    this.session = null;
    this.sessions = new Map(); // those with an answer under way
    this.answers = new Map(); // by the message's id
    this.list = null;
    this.tabs = new BroadcastChannel("roxy");
    this.tabs.onmessage = (event) => this.otherTab(event.data);
    this.transcript = new Transcript(byId("transcript"), byId("scroller"), byId("jump"), {
      act: (name, message, row) => this.act(name, message, row),
      siblings: (message) => this.session.tree.siblings(message),
      explain,
      fileCard: storedCard,
      modelName: (id) => this.modelName(id),
      isOwner: boot.visitor.kind === "owner",
    });
    this.composer = new Composer(byId("composer"), {
      send: (text, files) => this.send(text, files),
      stop: () => this.running()?.stop(),
      draft: (text, files) => this.keep(this.session.keepDraft(text, files)),
      editLast: () => this.editLast(),
      blocked: (files) => this.blocked(files),
      room: (tokens) => this.room(tokens),
      keepFiles: (files) => this.keep(this.session.keepFiles(files)),
      load: (module) => this.load(module),
      limits: { fileBytes: boot.max_file_bytes },
    });
  }

  async start() {
    byId("model").addEventListener("click", () => this.chooseModel());
    byId("settings").addEventListener("click", () => this.showSettings());
    byId("side-switch").addEventListener("click", () => this.toggleSidebar());
    byId("side-back").addEventListener("click", () => this.toggleSidebar(false));
    byId("welcome").addEventListener("click", (event) => this.welcomeClicked(event));
    addEventListener("popstate", () => this.open(idOfPage(), false));
    this.composer.enterSends = (await find("settings", "enter"))?.value ?? "auto";
    this.showStanding();
    await this.open(idOfPage(), false);
    performance.mark("roxy-ready");
    document.documentElement.dataset.ready = "";
    if (!(await keeps())) this.composer.showAlert("This browser keeps nothing for the page: conversations end with this tab.");
    await this.loadList();
    (window.requestIdleCallback ?? setTimeout)(() => this.loadRest());
  }

  async loadList() {
    const { ConversationList } = await this.load(() => import("./sidebar/sidebar.js"));
    this.list = new ConversationList(byId("sidebar"), {
      open: (id) => this.open(id),
      leave: () => this.open(null, true, true),
      opened: () => this.session?.conversation,
      live: (id) => this.live(id)?.conversation,
      change: (id, changes) => this.change(id, changes),
      changed: () => this.tell(null),
      load: (module) => this.load(module),
      failed: (text) => this.composer.showAlert(text),
      help: () => this.help(),
      modelName: (id) => this.modelName(id),
    });
    await this.list.reload();
    this.refresh();
  }

  /** Load what the first answer will need, while nothing else is to be done. */
  async loadRest() {
    const { listenToKeys } = await this.load(() => import("./shortcuts.js"));
    listenToKeys(this);
    await this.asking();
  }

  /** Import a module; after an upgrade of the gateway the old ones are gone. */
  async load(module) {
    try {
      return await module();
    } catch (error) {
      const reload = { action: () => location.reload(), label: "Reload" };
      this.composer.showAlert("A part of the page could not be loaded. The gateway may be newer than this page.", reload);
      throw error;
    }
  }

  // The open conversation

  async open(id, push = true, stay = false) {
    this.composer.save();
    const asked = (this.opening = Symbol("open"));
    if (id) await this.load(loadMarkdown);
    const session = id ? (this.sessions.get(id) ?? (await Session.read(id))) : await Session.fresh(this.firstModel());
    if (this.opening !== asked) return;
    if (push) history.pushState(null, "", id && session ? `/c/${id}` : "/");
    if (!session) {
      await this.open(null, false);
      history.replaceState(null, "", "/");
      this.composer.showAlert("This conversation is not in this browser: conversations stay where they were begun.");
      return;
    }
    this.session = session;
    this.composer.clearAlert();
    const { draft } = session.conversation;
    this.composer.load(draft?.text ?? "", await storedFiles(draft?.files));
    this.show();
    if (session.begun) this.transcript.toEnd();
    else byId("scroller").scrollTop = 0;
    if (stay) return;
    if (narrow.matches) this.toggleSidebar(false);
    this.composer.focus();
  }

  firstModel() {
    const last = this.models.get(localStorage.getItem(LAST_MODEL));
    return (last?.available ? last : (boot.models.find((model) => model.available) ?? boot.models[0]))?.id ?? "";
  }

  /** Show the open conversation as it is now; `elsewhere`: another tab may be asking just now. */
  show(elsewhere = false) {
    const { path } = this.session;
    byId("welcome").hidden = path.length > 0;
    this.transcript.show(path);
    for (const message of path) {
      if (message.state !== "open") continue;
      if (elsewhere && message.accepted === false && !this.answers.has(message.id)) continue;
      const answer = this.answers.get(message.id) ?? this.attach(message);
      this.transcript.phase(answer);
      this.transcript.text(answer);
    }
    this.showTitle();
    this.refresh();
  }

  showTitle() {
    const { title } = this.session.conversation;
    byId("title").textContent = title || "New chat";
    document.title = title ? `${title} – Roxy AI` : "Roxy AI";
  }

  /** Show what depends on answers, the model and the messages that wait. */
  refresh() {
    if (!this.session) return;
    const { conversation } = this.session;
    const name = this.model()?.name ?? (conversation.model || "No model");
    byId("model-name").textContent = name;
    byId("model").setAttribute("aria-label", `Model: ${name}`);
    for (const card of byId("welcome").querySelectorAll("[data-model]")) {
      card.setAttribute("aria-pressed", card.dataset.model === conversation.model);
    }
    this.composer.setBusy(Boolean(this.running()));
    this.composer.showWaiting(this.session.waiting, {
      remove: (message) => this.unqueue(message),
      edit: (message) => this.unqueue(message, ({ text, files }) => this.composer.giveBack(text, files)),
      send: (message) => this.unqueue(message, ({ text, files }) => this.send(text, files)),
    });
    this.showGauge();
    this.composer.refresh();
    const running = new Set([...this.answers.values()].map((answer) => answer.message.conversation));
    this.list?.show({ current: this.session.begun ? conversation.id : null, running });
  }

  model() {
    return this.models.get(this.session.conversation.model);
  }

  modelName(id) {
    return this.models.get(id)?.name ?? id;
  }

  /** Give the answer under way in the open conversation. */
  running() {
    return this.session?.path.map((message) => this.answers.get(message.id)).find(Boolean);
  }

  /** Wait until something is kept; tell when it cannot be. */
  async keep(keeping) {
    try {
      await keeping;
    } catch (error) {
      const why = error instanceof NoRoom ? "The browser has no room left" : "The browser does not keep data for this page";
      const action = { action: () => this.list?.exportAll(), label: "Export conversations" };
      this.composer.showAlert(`${why}: this conversation will be lost. Export it, then delete old ones.`, action);
    }
  }

  async save(session, ...messages) {
    await this.keep(session.save(...messages));
    this.tell(session.id);
    this.list?.touched(session.conversation);
  }

  /** Find a conversation that is open here or has an answer under way. */
  live(id) {
    return this.session?.id === id ? this.session : this.sessions.get(id);
  }

  /** Change a conversation's record: the one that is in use, if it is, so that nothing else is undone. */
  async change(id, changes) {
    const session = this.live(id);
    const record = session?.conversation ?? (await find("conversations", id));
    if (!record) return;
    Object.assign(record, changes);
    await this.keep(put("conversations", record));
    this.list?.touched(record);
    this.tell(id);
    if (session === this.session) this.showTitle();
    if (record.deleted) for (const answer of this.answersOf(id)) answer.stop();
  }

  answersOf(id) {
    return [...this.answers.values()].filter((answer) => answer.message.conversation === id);
  }

  /** Tell the other tabs that a conversation has changed; null: some have. */
  tell(id) {
    this.tabs.postMessage({ id });
  }

  // Asking

  /** Give what asks for answers; it comes with what shows them. */
  async asking() {
    this._asking ??= await this.load(async () => {
      await loadMarkdown();
      const { Asking } = await import("./state/asking.js");
      return new Asking(this);
    });
    return this._asking;
  }

  async send(text, files) {
    const { session } = this;
    if (this.running() || session.asking) {
      await session.queue(text, files);
      this.refresh();
      await this.keep(session.keepDraft("", []));
      this.tell(session.id);
      return;
    }
    session.asking = true; // from here on: what is sent while modules load waits its turn
    try {
      await this.asking();
    } catch {
      session.asking = false;
      this.composer.giveBack(text, files);
      return;
    }
    await this._asking.ask(session, { text, files, parent: session.path.at(-1) });
  }

  showRefusal(error) {
    const told = plainError(error);
    const offered = told.retryAfter ? null : actionFor(told);
    const action = offered && (() => this.do(offered.act) ?? this.composer.submit());
    this.composer.showAlert(told.message, { wait: told.retryAfter, action, label: offered?.label });
    this.updateStanding();
  }

  attach(message) {
    const answer = new Answer(message, this);
    this.answers.set(message.id, answer);
    this.sessions.set(message.conversation, this.session);
    answer.attach();
    return answer;
  }

  /** Take a message out of those that wait, and do something with it if no other tab has it. */
  async unqueue(message, act) {
    const { session } = this;
    const taken = await session.unqueue(message);
    this.tell(session.id);
    this.refresh();
    if (taken && act) act(taken);
  }

  async otherTab({ id }) {
    const { session } = this;
    const live = new Set([session, ...this.sessions.values()]);
    const concerned = [...live].filter((one) => one.begun && (!id || id === one.id));
    for (const one of concerned) await one.refresh(this.answers);
    await this.list?.reload();
    if (session !== this.session || !concerned.includes(session)) return;
    if (session.conversation.deleted) await this.leaveDeleted();
    else this.show(true);
  }

  /** Another tab has deleted what is open here: what is typed goes along to a new conversation. */
  async leaveDeleted() {
    const { value } = this.composer.text;
    const { files } = this.composer;
    await this.open(null, true, true);
    this.composer.giveBack(value, files);
    this.keep(this.session.keepFiles(files));
    this.composer.showAlert("This conversation was deleted in another tab.");
  }

  // What answers tell (see Answer)

  phase(answer) {
    this.transcript.phase(answer);
    if (answer.message.conversation !== this.session.id) return;
    announce(answer.phase.name === "writing" ? "Generating" : answer.words);
  }

  text(answer) {
    this.transcript.text(answer);
  }

  stats(answer) {
    this.transcript.refresh(answer.message);
    this.showGauge();
    this.updateStanding();
  }

  unkept(error) {
    this.keep(Promise.reject(error));
  }

  end(answer) {
    const { message } = answer;
    const session = this.sessions.get(message.conversation);
    this.answers.delete(message.id);
    this.sessions.delete(message.conversation);
    this.transcript.end(answer);
    this.tell(message.conversation);
    if (session === this.session) announce(endWords(message));
    if (session === this.session) this.composer.showWait(message.error?.retryAfter);
    this.refresh();
    this.list?.touched(session.conversation);
    if (message.state === "done" && session.waiting.length) this.asking().then((asking) => asking.askNext(session, message));
  }

  // What rows ask for

  act(name, message, row) {
    if (name === "previous" || name === "next") this.turnVersion(name, message);
    else if (name === "regenerate" || name === "again") this.regenerate(message);
    else if (name === "edit") this.edit(message, row);
    else this.do(name);
  }

  /** Do what an error offers; undefined where trying again is meant. */
  do(name) {
    const acts = { model: () => this.chooseModel(), reload: () => location.reload(), new: () => this.open(null) };
    if (!acts[name]) return undefined;
    acts[name]();
    return true;
  }

  /** Say that something has to wait for the answer under way. */
  mustWait() {
    if (!this.running()) return false;
    this.composer.showAlert("An answer is under way: wait for its end, or stop it first.");
    return true;
  }

  /** Say whether another version can be asked for now; where the model is gone one is chosen first. */
  canAsk() {
    if (this.mustWait()) return false;
    if (!this.model()) this.chooseModel();
    return Boolean(this.model());
  }

  async turnVersion(name, message) {
    if (!this.mustWait()) (await this.asking()).turnVersion(name, message);
  }

  async regenerate(message) {
    if (this.canAsk()) await (await this.asking()).regenerate(message);
  }

  async edit(message, row) {
    if (this.canAsk()) await (await this.asking()).edit(message, row);
  }

  editLast() {
    const last = this.session.path.findLast((message) => message.role === "user");
    if (!last || this.running()) return false;
    this.edit(last, this.transcript.rows.get(last.id));
    return true;
  }

  // Models, room and standing

  async chooseModel() {
    const { pickModel } = await this.load(() => import("./dialogs/picker.js"));
    const id = await pickModel(boot.models, this.session.conversation.model);
    if (id) this.setModel(id);
  }

  setModel(id) {
    this.session.conversation.model = id;
    localStorage.setItem(LAST_MODEL, id);
    this.keep(this.session.saveRecord());
    this.refresh();
    announce(`Model: ${this.modelName(id)}`);
  }

  /** Say why this visitor cannot send, or not these files to this model; null: they can. */
  blocked(files) {
    if (this.visitor.kind === "nobody") {
      return { text: "Guests are not welcome here.", label: "Sign in", action: () => location.assign(`/login?next=${location.pathname}`) };
    }
    if (!this.session) return null;
    const model = this.model();
    if (!model) {
      const text = `${this.session.conversation.model || "No model"} is not offered here.`;
      return { text, label: "Choose a model", action: () => this.chooseModel() };
    }
    if (!files.some((file) => file.kind === "image") || takesImages(model)) return null;
    const able = boot.models.find((other) => other.available && takesImages(other));
    const action = able && (() => this.setModel(able.id));
    return { text: `${model.name} takes no images.`, label: able && `Switch to ${able.name}`, action };
  }

  room(typed) {
    const model = this.session && this.model();
    if (!model) return { text: "" };
    return this.session.room(model, typed) ?? { text: this.session.begun ? left(this.visitor) : "" };
  }

  showGauge() {
    const model = this.model();
    const used = this.session.used();
    byId("gauge").hidden = !model || used === 0;
    if (!model) return;
    byId("gauge-bar").value = Math.min(used / model.context_window, 1);
    byId("gauge-text").textContent = `${short(used)} / ${short(model.context_window)}`;
    const cost = this.session.cost();
    byId("total").textContent = cost ? money(cost) : "";
  }

  async updateStanding() {
    try {
      this.visitor = { ...this.visitor, ...(await callJson("key")) };
      this.showStanding();
    } catch {
      // It stays as it was; the next answer asks anew.
    }
  }

  showStanding() {
    if (this.visitor.kind === "nobody") return; // the page has said so
    byId("standing").textContent = standing(this.visitor);
    this.composer.refresh();
  }

  // The page

  welcomeClicked(event) {
    const button = event.target.closest("button");
    if (button?.dataset.prompt) this.composer.fill(button.dataset.prompt);
    else if (button?.dataset.model) {
      this.setModel(button.dataset.model);
      this.composer.focus();
    }
  }

  toggleSidebar(open) {
    const { dataset } = document.body;
    const shown = dataset.side ? dataset.side === "open" : !narrow.matches;
    dataset.side = (open ?? !shown) ? "open" : "closed";
    byId("side-switch").setAttribute("aria-expanded", dataset.side === "open");
    if (dataset.side === "open") byId("sidebar").querySelector("a, button, input")?.focus();
    else if (byId("sidebar").contains(document.activeElement)) byId("side-switch").focus();
  }

  async showSettings() {
    const { showSettings } = await this.load(() => import("./dialogs/settings.js"));
    showSettings(this, this.model() ?? boot.models[0]);
  }

  async help() {
    const { showHelp } = await this.load(() => import("./dialogs/help.js"));
    showHelp();
  }
}

const takesImages = (model) => model.modalities.input.includes("image");

new Chat().start();
