// From a message to an answer under way: asking, giving back what is refused, and other versions.

import { call } from "../../shell/stream.js";
import { editInPlace } from "../transcript/edit.js";
import { Answer, newAnswer } from "./answer.js";
import { buildRequest } from "./request.js";
import { storedFiles } from "./session.js";
import { newId } from "./store.js";

/** Asks for answers in the sessions of `chat`, which shows and keeps what comes of it. */
export class Asking {
  constructor(chat) {
    this.chat = chat;
  }

  /** Ask a new question below `parent`, and give it back if the gateway refuses. */
  async ask(session, { text, files, parent }) {
    const { chat } = this;
    session.asking = true;
    const begins = !session.begun;
    const question = session.addQuestion(text, files, parent);
    if (begins && session === chat.session) history.replaceState(null, "", `/c/${session.id}`);
    const error = await this.answer(session, question);
    session.asking = false;
    if (!error) {
      const typing = session === chat.session && !chat.composer.isEmpty;
      if (!typing) chat.keep(session.forgetDraft());
      return;
    }
    await session.remove(question);
    chat.tell(session.id);
    if (begins) chat.list?.dropped(session.conversation);
    if (session !== chat.session) {
      if (!begins) await session.queue(text, files, true); // nobody looks: it waits for them
      return;
    }
    if (begins) history.replaceState(null, "", "/");
    chat.composer.giveBack(text, files);
    chat.show();
    chat.showRefusal(error);
  }

  /** Ask for an answer to a question; gives the error when the gateway refuses it. */
  async answer(session, question) {
    const { chat } = this;
    const { conversation, tree } = session;
    const message = newAnswer(newId("m_"), newId("chat-"), question.id, session.id, conversation.model);
    tree.add(message, true);
    const answer = new Answer(message, chat);
    chat.answers.set(message.id, answer);
    chat.sessions.set(session.id, session);
    if (session === chat.session) {
      chat.show();
      chat.transcript.toEnd();
    }
    await chat.save(session, question, message);
    try {
      const model = chat.models.get(message.model);
      await answer.ask(await buildRequest(conversation, tree.before(question), model));
    } catch (error) {
      if (message.state !== "open") return null; // it was stopped before it was accepted
      chat.answers.delete(message.id);
      if (error.code === "unreachable") call(`jobs/${message.job}`, { method: "DELETE" }).catch(() => {});
      await session.remove(message);
      chat.tell(session.id);
      if (session === chat.session) chat.show();
      return error;
    }
    chat.updateStanding();
    await chat.save(session, message); // other tabs may follow it from here on
    return null;
  }

  /** Ask what has waited for the end of this answer, unless another tab does. */
  async askNext(session, answer) {
    const next = await session.next(answer);
    if (next) await this.ask(session, { ...next, parent: session.path.at(-1) });
    else if (session === this.chat.session) this.chat.refresh();
  }

  /** Ask for another version of an answer. */
  async regenerate(message) {
    const { chat } = this;
    const { session } = chat;
    const refused = await this.answer(session, session.tree.messages.get(message.parent));
    if (refused) chat.showRefusal(refused);
    else if (!message.text && message.state !== "done") {
      await session.remove(message); // it never had a word
      if (session === chat.session) chat.show();
    }
  }

  /** Show the version before or after ("previous", "next") a message; the focus stays on the buttons. */
  turnVersion(name, message) {
    const { chat } = this;
    const { tree } = chat.session;
    const siblings = tree.siblings(message);
    const chosen = siblings[siblings.indexOf(message) + (name === "next" ? 1 : -1)];
    tree.choose(chosen);
    chat.show();
    chat.keep(chat.session.saveRecord());
    const { root } = chat.transcript.rows.get(chosen.id);
    (root.querySelector(`[data-act="${name}"]:enabled`) ?? root.querySelector(".versions button:enabled"))?.focus();
  }

  /** Let a message be written anew in its row; sending it begins another branch. */
  edit(message, row) {
    const { session } = this.chat;
    editInPlace(row, async (text) => {
      const parent = session.tree.messages.get(message.parent);
      await this.ask(session, { text, files: await storedFiles(message.files), parent });
    });
  }
}
