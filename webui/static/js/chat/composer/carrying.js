// Taking a message along into a new chat, after a refusal for its size.

import { storedFiles } from "../state/conversation.js";
import { newId } from "../state/records.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { Draft } from "../state/types.js" */

/**
 * Begin a new chat with what is typed, else with the question whose answer, the last one shown, has failed. Its
 * files have new ids: each chat keeps its own.
 *
 * @param {Chat} chat
 * @param {Draft | null} typed
 */
export async function carryOver(chat, typed) {
  const { text, files } = typed ?? (await failedQuestion(chat)) ?? { text: "", files: [] };
  chat.saveDraft("", []);
  await chat.open(null, { keepFocus: true });
  const copies = files.map((file) => ({ ...file, id: newId("f_") }));
  chat.saveFiles(copies);
  chat.emit("returned", { text, files: copies });
}

/**
 * @param {Chat} chat
 * @returns {Promise<Draft | null>}
 */
async function failedQuestion(chat) {
  const [question, answer] = (chat.current?.path ?? []).slice(-2);
  if (question?.role !== "user" || answer?.role !== "assistant" || answer.state !== "failed") return null;
  return { text: question.text, files: await storedFiles(question.files) };
}
