// Titles by a model: asked for once, after the first complete answer of a chat, as an ordinary request.

import { callJson } from "../../shell/api.js";
import { newId, titleOf } from "../state/records.js";
import { find, within } from "../state/store.js";
import { answerText } from "./thoughts.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { AnswerRecord, Message } from "../state/types.js" */

const INSTRUCTION =
  "Write a title for the conversation that the user shows you: at most six words, in the language of the " +
  "conversation. Reply with the title alone, without quotation marks, Markdown or a full stop.";
/** As much of a question and of an answer as a title needs. */
const EXCERPT_LETTERS = 2000;
/** Enough for a model that thinks a little first. */
const MAX_TOKENS = 300;
const MAX_WAIT_S = 60;
const LABEL = /^(?:title|titel|título|titulo|タイトル)\s*[:：]\s*/i;
const QUOTED = /^["'“”„«»‹›‘’‚「『《]+(.*?)["'“”„«»‹›‘’‚」』》]+$/;

/**
 * Return the title that a model has written as one clean line; "" when there is none in it.
 *
 * @param {unknown} written
 */
export function cleanTitle(written) {
  if (typeof written !== "string") return "";
  const said = answerText({ text: written });
  const line = said.split("\n").find((one) => /[\p{L}\p{N}]/u.test(one)) ?? "";
  const bare = titleOf(line).replace(LABEL, "");
  return bare
    .replace(/[.。．]+$/, "")
    .replace(QUOTED, "$1")
    .replace(/[.。．]+$/, "")
    .trim();
}

/**
 * True if a conversation still has the title that its first words gave it, and this is its first complete answer.
 *
 * @param {string} title
 * @param {AnswerRecord} message
 * @param {Message[]} messages
 */
function isUntitled(title, message, messages) {
  const isOther = messages.some((one) => one.role === "assistant" && one.state === "done" && one.id !== message.id);
  return (
    !isOther &&
    messages.some((one) => {
      if (one.role !== "user" || one.parent !== null) return false;
      return titleOf(one.text || one.files[0]?.name || "") === title;
    })
  );
}

/**
 * Ask for the title of the conversation that an answer belongs to, unless it has another one already. When that
 * fails the title stays as it is.
 *
 * @param {Chat} chat
 * @param {AnswerRecord} message
 * @param {string} model
 */
export async function askTitle(chat, message, model) {
  const id = message.conversation;
  const read = async () => chat.recordOf(id) ?? (await find("conversations", id));
  const record = await read();
  const title = record?.title ?? "";
  const messages = await within("messages", id);
  const question = messages.find((one) => one.id === message.parent);
  if (!record || record.temporary || record.deleted || !question) return;
  if (!answerText(message).trim() || !isUntitled(title, message, messages)) return;
  const shown = [question.text, answerText(message)].map((text) => text.slice(0, EXCERPT_LETTERS));
  let written;
  try {
    const { choices } = await callJson("chat/completions", {
      method: "POST",
      headers: { "X-Request-Id": newId("title-"), "X-Roxy-Max-Wait": String(MAX_WAIT_S) },
      body: JSON.stringify({
        model,
        max_tokens: MAX_TOKENS,
        messages: [
          { role: "system", content: INSTRUCTION },
          { role: "user", content: `<question>\n${shown[0]}\n</question>\n<answer>\n${shown[1]}\n</answer>` },
        ],
      }),
    });
    written = choices?.[0]?.message?.content;
  } catch {
    return; // a limit, or no connection: the first words are a title too
  }
  const better = cleanTitle(written);
  const now = await read();
  // Meanwhile the person may have renamed or deleted it, here or on another device.
  if (better && now && !now.deleted && now.title === title) await chat.change(id, { title: better });
  chat.answers?.updateVisitor();
}
