// What other tabs and devices do: their changes are taken over into the conversations of this tab.

import { fill, texts } from "../../shell/page.js";
import { ROOT, storedFiles, Tree } from "./conversation.js";
import { find, queueId, within } from "./store.js";

/** @import { ConnectionStatus } from "../history/connection.js" */
/** @import { Remote } from "../history/remote.js" */
/** @import { Chat } from "./chat.js" */
/** @import { Conversation } from "./conversation.js" */
/** @import { AnswerRecord, ConversationRecord, Draft, Message } from "./types.js" */

/**
 * Keep in view what is read in this tab, whatever another tab or device shows: what is being written here, and, on a
 * page that is seen, the rest. Returns the version of a shown message that is new, if there is one.
 *
 * @param {Tree} tree
 * @param {{ shown: Message[], before: Tree, pairs: Record<string, string[]> | undefined, live: Set<string> }} earlier
 *   what was shown, the tree and the pairs of answers at that time; the messages that are being written
 * @param {boolean} isSeen
 * @returns {Message | null}
 */
export function stay(tree, { shown, before, pairs, live }, isSeen) {
  const written = shown.findLastIndex(({ id }) => live.has(id));
  for (const [at, { id, parent }] of shown.entries()) {
    const message = tree.messages.get(id);
    const next = tree.below(parent ?? ROOT);
    if (!message || !next) return null;
    if (next.id === id) continue;
    const isWritten = at <= written;
    const isUsed = Boolean(pairs?.[parent ?? ""] && !tree.record.pairs?.[parent ?? ""]); // one of two is gone on with
    const isContinued = next.role === "assistant" && next.continues?.id === id;
    if (!isWritten && (!isSeen || isUsed || isContinued)) return null;
    tree.choose(message);
    for (const below of shown.slice(at + 1)) {
      if (tree.messages.has(below.id) && tree.below(below.parent ?? ROOT)?.id !== below.id) tree.choose(below);
    }
    return before.messages.has(next.id) ? null : next;
  }
  return null;
}

/**
 * Read what another tab or device has written in a conversation. Messages in `live` are newer here than in the store.
 * Returns the stored draft (the one of this tab stays), and the answers of which only figures have changed: their
 * rows on the page, with what is selected there, can stay.
 *
 * @param {Conversation} conversation
 * @param {() => Set<string>} findLive returns ids of messages; what is asked while this reads is among them
 * @param {(shown: Message[], before: Tree, pairs: ConversationRecord["pairs"]) => void} choose gets what was shown
 */
async function reload(conversation, findLive, choose) {
  const record = await find("conversations", conversation.id);
  /** @type {AnswerRecord[]} */
  const touched = [];
  if (!record) return { draft: conversation.record.draft, touched };
  const queue = await find("settings", queueId(conversation.id));
  const stored = await within("messages", conversation.id);
  // No await from here on: a message sent meanwhile would be lost.
  const live = findLive();
  conversation.queue = queue?.messages ?? [];
  const here = conversation.tree.messages;
  const messages = stored.map((message) => {
    const known = here.get(message.id);
    if (!known || live.has(message.id) || JSON.stringify(known) === JSON.stringify(message)) return known ?? message;
    if (known.role === "user" || message.role === "user" || !looksAlike(known, message)) return message;
    touched.push(Object.assign(known, message));
    return known;
  });
  // A question and its answer may not be in the database yet.
  const read = new Set(messages.map((message) => message.id));
  for (const id of live) {
    const answer = here.get(id);
    for (const message of answer ? conversation.tree.before(answer) : []) {
      if (read.has(message.id)) continue;
      messages.push(message);
      read.add(message.id);
    }
  }
  const [shown, before, pairs] = [conversation.path, conversation.tree, conversation.record.pairs];
  conversation.takeRecord(record);
  conversation.tree = new Tree(conversation.record, messages, before.earlier);
  choose(shown, before, pairs);
  return { draft: record.draft, touched };
}

/**
 * True if an answer reads the same as before.
 *
 * @param {AnswerRecord} known
 * @param {AnswerRecord} message
 */
const looksAlike = (known, message) =>
  known.text === message.text && known.reasoning === message.reasoning && known.state === message.state;

/** Follows the other tabs and devices for a chat. */
export class Elsewhere {
  #chat;
  /** @type {Set<symbol>} who holds the shown messages as they are */
  #held = new Set();
  /** True once the person knows that the history is full. */
  #isFull = false;

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  /** Leave the shown messages as they are. Returns what ends that. */
  hold() {
    const held = Symbol("held");
    const id = this.#chat.current?.id;
    this.#held.add(held);
    return () => {
      // First what the visitor does next: a question that is being sent is in use by then.
      setTimeout(() => {
        if (this.#held.delete(held) && !this.#held.size && id) this.changed(id);
      });
    };
  }

  /**
   * Take over what another tab or device has changed; null: several conversations.
   *
   * @param {string | null} id
   */
  async changed(id) {
    const chat = this.#chat;
    const { current } = chat;
    // Signed in in another tab, which may have moved the chats of this guest: what is shown here stays.
    if (chat.ended && !chat.place.person) return;
    if (this.#held.size && (!id || id === current?.id)) return; // read when the view is let go
    const live = new Set([current, ...(chat.answers?.conversations ?? [])]);
    const changed = [...live].flatMap((one) => one ?? []).filter((one) => one.started && (!id || id === one.id));
    for (const one of changed) await this.#reload(one);
    chat.emit("records", null);
    if (!current || current !== chat.current || !changed.includes(current)) return;
    if (current.record.deleted || (await this.#isErased(current))) {
      chat.emit("deletedElsewhere", null);
      return;
    }
    chat.showMessages(true);
    chat.emit("record", current.record);
  }

  /**
   * True if another tab has erased a conversation of this browser. One that is being written here may not be stored.
   *
   * @param {Conversation} conversation
   */
  async #isErased({ id, path }) {
    const { history, answers } = this.#chat;
    const isWritten = !path.length || Boolean(answers?.in(id).length);
    return !history && !isWritten && !(await find("conversations", id));
  }

  /** @param {Conversation} conversation */
  async #reload(conversation) {
    const chat = this.#chat;
    const { record } = conversation;
    const shown = JSON.stringify(record.draft);
    /** @type {{ draft: Draft | null, touched: AnswerRecord[] }} */
    const unread = { draft: record.draft, touched: [] };
    /** @type {Message | null} */
    let added = null;
    const findLive = () => chat.answers?.ids ?? new Set();
    const { draft: stored, touched } = await reload(conversation, findLive, (shown, before, pairs) => {
      added = stay(conversation.tree, { shown, before, pairs, live: findLive() }, !document.hidden);
    }).catch(() => unread);
    if (added && conversation === chat.current) this.#offer(conversation, added);
    for (const message of touched) chat.emit("stats", { message });
    if (!chat.history || JSON.stringify(stored) === shown || JSON.stringify(record.draft) !== shown) return;
    conversation.takeDraft(stored);
    const files = await storedFiles(stored?.files).catch(() => stored?.files ?? []);
    if (conversation === chat.current) chat.emit("draft", { text: stored?.text ?? "", files });
  }

  /**
   * Say that there is another version of what is read here, and offer it.
   *
   * @param {Conversation} conversation
   * @param {Message} version
   */
  #offer(conversation, version) {
    const chat = this.#chat;
    const run = () => {
      if (conversation !== chat.current || !chat.answers?.isFree()) return;
      const found = conversation.tree.messages.get(version.id);
      if (found) conversation.tree.choose(found);
      chat.showMessages();
      chat.keep(conversation.saveRecord());
    };
    const text = version.role === "user" ? texts.history.new_message : texts.history.new_answer;
    chat.report({ text, calm: true, action: { name: "show", label: texts.history.show, run } });
  }

  /**
   * Follow what other devices do with the history on the server.
   *
   * @param {Remote} history
   */
  follow(history) {
    const chat = this.#chat;
    history.start({
      changed: async (ids) => {
        for (const id of ids) await this.changed(id);
      },
      erased: (id) => {
        chat.emit("removed", { id });
        for (const answer of chat.answers?.in(id) ?? []) answer.stop();
        if (chat.current?.id === id) chat.emit("deletedElsewhere", null);
      },
      list: () => chat.emit("records", null),
      settings: () => chat.readSettings(),
      held: () => chat.emit("held", null),
      status: (status) => this.#connectionChanged(status),
      problem: (text) => chat.report({ text }),
      renamed: (id, mine, theirs) => {
        const run = () => chat.change(id, { title: mine });
        const text = fill(texts.history.renamed, { mine, theirs });
        chat.report({ text, action: { name: "show", label: texts.history.use_mine, run } });
      },
    });
  }

  /** @param {ConnectionStatus} status */
  #connectionChanged(status) {
    this.#chat.emit("connection", status);
    if (status.state === "ok") this.#isFull = false;
    if (status.state !== "full" || this.#isFull) return;
    this.#isFull = true;
    this.#chat.report({
      text: texts.problems.history_full,
      action: { name: "export", label: texts.problems.export },
    });
  }
}
