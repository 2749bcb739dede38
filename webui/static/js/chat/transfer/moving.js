// Whole conversations on their way to the server: from this browser, or from an export.

import { ApiError } from "../../shell/api.js";
import { texts } from "../../shell/page.js";
import { stateOf } from "../history/connection.js";
import { upload } from "../history/upload.js";
import { copyOf } from "../history/view.js";
import { problemWords } from "../state/problems.js";
import { newId } from "../state/records.js";

/** @import { ConversationRecord, FileRecord, Message } from "../state/types.js" */
/** @import { Remote } from "../history/remote.js" */

/** @typedef {{ conversation: ConversationRecord, messages: Message[], files: FileRecord[] }} Whole */

const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15_000, 30_000];

/** The person has to do something before the rest can be sent. */
export class NotSent extends Error {}

/**
 * Return why something could not be sent, for the visitor.
 *
 * @param {unknown} error
 */
function wordsOf(error) {
  const state = stateOf(error);
  if (state === "full") return texts.history.full;
  if (state === "out") return texts.history.signed_out;
  if (state === "off") return texts.history.off;
  return problemWords(error);
}

/**
 * Return a conversation under new ids, with its files.
 *
 * @param {Whole} whole
 * @returns {Whole}
 */
function renewed({ conversation, messages, files }) {
  const known = { record: conversation, messages: new Map(messages.map((one) => [one.id, one])), stale: false };
  const copy = copyOf(known);
  const ids = new Map(files.map(({ id }) => [id, newId("f_")]));
  /** @param {FileRecord} file */
  const rename = (file) => ({ ...file, id: ids.get(file.id) ?? file.id });
  const { draft } = copy.record;
  return {
    conversation: { ...copy.record, draft: draft && { ...draft, files: draft.files.map(rename) } },
    messages: copy.messages.map((one) => (one.role === "user" ? { ...one, files: one.files?.map(rename) ?? [] } : one)),
    files: files.map((file) => ({ ...rename(file), conversation: copy.record.id })),
  };
}

/**
 * Send a whole conversation, and return once the server has it. While the server is away it is tried again.
 * Raises NotSent.
 *
 * @param {Whole} whole
 * @param {Remote} history
 */
export async function send(whole, history) {
  let sent = whole;
  for (let attempt = 0; ; attempt += 1) {
    try {
      await upload(sent, history.connection);
      return;
    } catch (error) {
      const isErased = error instanceof ApiError && error.code === "conversation_erased";
      if (isErased && sent === whole)
        sent = renewed(whole); // the person has erased it on the server before
      else if (stateOf(error) !== "offline" || attempt >= WAITS_MS.length) throw new NotSent(wordsOf(error));
      else await new Promise((resolve) => setTimeout(resolve, WAITS_MS[attempt]));
    }
  }
}
