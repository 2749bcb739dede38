// What can be done with a turn, beyond the buttons below it.

import { texts } from "../../shell/page.js";
import { pickModel } from "../dialogs/picker.js";
import { openMenu } from "../menu.js";
import { deleteFrom, openFrom } from "./branches.js";

/** @import { MenuItem } from "../menu.js" */
/** @import { Remote } from "../history/remote.js" */
/** @import { Answers } from "../state/answers.js" */
/** @import { Chat } from "../state/chat.js" */
/** @import { AnswerRecord, Message } from "../state/types.js" */

/**
 * Show the menu of a turn at its button.
 *
 * @param {HTMLElement} button
 * @param {Message} message
 * @param {Chat} chat
 * @param {Answers} answers
 * @param {(() => void) | null} edit edits an answer
 */
export function showTurnMenu(button, message, chat, answers, edit) {
  /** @type {MenuItem[]} */
  const items = [];
  if (message.role === "assistant") {
    items.push(
      {
        icon: "refresh-cw",
        label: texts.turns.regenerate_with,
        run: () => withOtherModel(message, chat, answers, (model) => answers.regenerate(message, model)),
      },
      {
        icon: "git-branch",
        label: texts.turns.compare_with,
        run: () => withOtherModel(message, chat, answers, (model) => answers.compare(message, model), true),
      },
    );
  }
  if (message.role === "user" && answers.isLast(message)) {
    items.push({ icon: "refresh-cw", label: texts.turns.ask_again, run: () => answers.askAgain(message) });
  }
  if (message.role === "user" && message.text)
    items.push({ icon: "book-open", label: texts.prompts.save_as_prompt, run: () => saveAsPrompt(chat, message.text) });
  if (edit) items.push({ icon: "pencil", label: texts.turns.edit_answer, run: edit });
  const { history } = chat;
  if (message.role === "assistant" && chat.place.shares && history && !chat.current?.record.temporary)
    items.push({ icon: "link", label: texts.turns.share_link, run: () => share(chat, history, message) });
  items.push(
    { icon: "message-square", label: texts.turns.open_from_here, run: () => openFrom(chat, message) },
    {
      icon: "trash-2",
      label: answers.isLast(message) ? texts.turns.delete : texts.turns.delete_from_here,
      run: () => void (answers.isFree() && deleteFrom(chat, message)),
    },
  );
  openMenu(button, message.role === "user" ? texts.turns.message : texts.turns.answer, items);
}

/**
 * @param {Chat} chat
 * @param {string} text
 */
async function saveAsPrompt(chat, text) {
  const { newPrompt } = await chat.load(() => import("../prompts/prompt_dialog.js"));
  await newPrompt(chat, text);
}

/**
 * Show the read-only links, and offer to make one to an answer.
 *
 * @param {Chat} chat
 * @param {Remote} history
 * @param {AnswerRecord} message
 */
async function share(chat, history, { conversation, id }) {
  const { showLinks } = await chat.load(() => import("../dialogs/share.js"));
  showLinks(history, { conversation, message: id });
}

/**
 * @param {AnswerRecord} message
 * @param {Chat} chat
 * @param {Answers} answers
 * @param {(model: string) => void} ask
 * @param {boolean} [isOther] leave out the model that has answered
 */
async function withOtherModel(message, chat, answers, ask, isOther = false) {
  if (!answers.isFree()) return;
  const models = [...chat.models.values()].filter(({ id }) => !isOther || id !== message.model);
  const model = await pickModel(models, message.model);
  if (model) ask(model);
}
