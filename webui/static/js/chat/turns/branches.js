// What is done with whole branches of a conversation: copied into a new chat, or deleted with Undo.

import { pluralText, texts } from "../../shell/page.js";
import { newConversation, newId } from "../state/records.js";
import { eraseMessages, find, putAll } from "../state/store.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { Conversation, Tree } from "../state/conversation.js" */
/** @import { FileRecord, Message } from "../state/types.js" */

/**
 * Open a new chat that begins with the messages down to this one. A question at the end is put into the
 * message box.
 *
 * @param {Chat} chat
 * @param {Message} message
 */
export async function openFrom(chat, message) {
  const { current } = chat;
  if (!current) return;
  const line = current.tree.before(message);
  const asked = message.role === "user" ? line.pop() : undefined;
  const { title, system, parameters, model } = current.record;
  const record = { ...newConversation(model), title, system, parameters: { ...parameters } };
  /** @type {FileRecord[]} */
  const files = [];
  /** @param {FileRecord[]} named */
  const copied = async (named) => {
    const copies = await Promise.all(named.map((file) => copyOf(file, record.id)));
    files.push(...copies);
    return copies.map(({ blob, ...file }) => file);
  };
  /** @type {Message[]} */
  const messages = [];
  for (const one of line) {
    const copy = { ...one, id: newId("m_"), conversation: record.id, parent: messages.at(-1)?.id ?? null };
    if (copy.role === "user") copy.files = await copied(copy.files);
    messages.push(copy);
  }
  const draft = asked?.role === "user" ? { text: asked.text, files: await copied(asked.files) } : null;
  if (!messages.length) {
    await chat.open(null);
    if (draft) chat.emit("returned", { text: draft.text, files });
    return;
  }
  await chat.keep(putAll({ conversations: [{ ...record, draft }], messages, files }));
  chat.emit("record", { ...record, draft });
  chat.notifyTabs(record.id);
  await chat.open(record.id);
}

/**
 * @param {FileRecord} file
 * @param {string} conversation
 */
async function copyOf(file, conversation) {
  const stored = await find("files", file.id);
  return { ...file, ...stored, id: newId("f_"), conversation };
}

/**
 * Return a message with all that follow it, each after the one it follows.
 *
 * @param {Tree} tree
 * @param {Message} message
 */
function branchOf(tree, message) {
  const branch = [message];
  for (const one of branch)
    branch.push(...(tree.children.get(one.id) ?? []).flatMap((id) => tree.messages.get(id) ?? []));
  return branch;
}

/**
 * Delete a message with all that follow it, and offer to undo that.
 *
 * @param {Chat} chat
 * @param {Message} message
 */
export async function deleteFrom(chat, message) {
  const conversation = chat.current;
  if (!conversation) return;
  const branch = branchOf(conversation.tree, message);
  if (branch.length === conversation.tree.messages.size) {
    await deleteAll(chat, conversation);
    return;
  }
  const choices = { ...conversation.record.choices };
  for (const one of [...branch].reverse()) conversation.tree.remove(one);
  await chat.keep(eraseMessages(...branch.map(({ id }) => id)));
  await chat.save(conversation);
  chat.showMessages();
  offerUndo(chat, pluralText(texts.turns.messages_deleted, branch.length), async () => {
    const back = await Promise.all(branch.map(beside));
    for (const one of back) conversation.tree.add(one);
    conversation.record.choices = choices;
    await chat.save(conversation, ...back);
    if (conversation === chat.current) {
      chat.showMessages();
      chat.emit("passage", { message: message.id, words: [], file: null });
    }
  });
}

/**
 * Return a deleted message as it is brought back: as another version, if another tab or device has changed it
 * meanwhile, so that it is there again with other words.
 *
 * @param {Message} message
 */
async function beside(message) {
  const there = await find("messages", message.id);
  if (!there) return message;
  return there.text.startsWith(message.text) ? there : { ...message, id: newId("m_") };
}

/**
 * @param {Chat} chat
 * @param {Conversation} conversation
 */
async function deleteAll(chat, { id, record }) {
  if (record.temporary) {
    await chat.open(null, { keepFocus: true });
    return;
  }
  await chat.change(id, { deleted: Date.now() });
  await chat.open(null, { keepFocus: true });
  offerUndo(chat, texts.turns.chat_deleted, async () => {
    await chat.change(id, { deleted: null });
    await chat.open(id);
  });
}

/**
 * @param {Chat} chat
 * @param {string} text
 * @param {() => void} run
 */
function offerUndo(chat, text, run) {
  chat.report({ text, calm: true, action: { name: "undo", label: texts.turns.undo, run } });
}
