// Exported conversations back into the browser. Nothing is kept before everything in the file has been
// checked, and records are made here: a file brings values of the right kind into them, nothing else.

import { newAnswer } from "./answer.js";
import { all, newConversation, newId, putAll } from "./store.js";
import { FORMAT, VERSION } from "./transfer.js";

const ENDS = ["done", "stopped", "failed", "interrupted"];
const KINDS = ["image", "text", "other"];

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const textOf = (value, otherwise = "") => (typeof value === "string" ? value : otherwise);
const numberOf = (value, otherwise = null) => (Number.isFinite(value) ? value : otherwise);
const oneOf = (values, value, otherwise) => (values.includes(value) ? value : otherwise);

/** Take an export in, all of it; gives how many conversations came. Raises Error with words for a person. */
export async function takeIn(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error("This is not an export of Roxy's conversations.");
  }
  if (!(file.version <= VERSION)) throw new Error("This export is from a newer version of Roxy.");
  const here = new Set((await all("conversations")).map((one) => one.id));
  const made = file.conversations.map((one) => new Intake(one, here.has(one?.id)).records());
  await putAll({
    conversations: made.map((one) => one.conversation),
    messages: made.flatMap((one) => one.messages),
    files: made.flatMap((one) => one.files),
  });
  return made.length;
}

/** One conversation of a file; where it is here already it becomes a copy with ids of its own. */
class Intake {
  constructor(given, copy) {
    if (!isObject(given) || !Array.isArray(given.messages)) throw damaged("A conversation");
    this.given = given;
    this.copy = copy;
    this.ids = new Map();
    this.id = this._id(given.id, "c_");
  }

  records() {
    const { given } = this;
    const choices = Object.entries(isObject(given.choices) ? given.choices : {}).map(([at, chosen]) => [
      at === "root" ? at : this._id(at, "m_"),
      this._id(chosen, "m_"),
    ]);
    const created = numberOf(given.created, Date.now());
    const conversation = {
      ...newConversation(textOf(given.model)),
      id: this.id,
      title: textOf(given.title),
      created,
      updated: numberOf(given.updated, created),
      pinned: given.pinned === true,
      system: textOf(given.system),
      parameters: isObject(given.parameters) ? given.parameters : {},
      choices: Object.fromEntries(choices),
    };
    const files = (Array.isArray(given.files) ? given.files : []).map((file) => ({
      ...this._file(file),
      conversation: this.id,
      blob: blobOf(file.data, textOf(file.type)),
    }));
    return { conversation, messages: given.messages.map((one) => this._message(one)), files };
  }

  _id(id, prefix) {
    if (typeof id !== "string" || !/^[\w-]{1,64}$/.test(id)) throw damaged("An id");
    if (!this.copy) return id;
    if (!this.ids.has(id)) this.ids.set(id, newId(prefix));
    return this.ids.get(id);
  }

  _message(given) {
    if (!isObject(given) || typeof given.text !== "string") throw damaged("A message");
    const id = this._id(given.id, "m_");
    const parent = given.parent === null || given.parent === undefined ? null : this._id(given.parent, "m_");
    const created = numberOf(given.created, Date.now());
    if (given.role === "assistant") return { ...this._answer(given, id, parent), created };
    if (given.role !== "user") throw damaged("A message");
    const files = (Array.isArray(given.files) ? given.files : []).map((file) => this._file(file));
    return { id, conversation: this.id, parent, role: "user", text: given.text, files, created };
  }

  _answer(given, id, parent) {
    const state = oneOf([...ENDS, "open"], given.state, "done");
    return {
      ...newAnswer(id, textOf(given.job), parent, this.id, textOf(given.model)),
      text: given.text,
      reasoning: textOf(given.reasoning),
      seq: numberOf(given.seq, 0),
      state,
      accepted: true,
      error: isObject(given.error) || state === "failed" ? errorOf(given.error ?? {}) : null,
      finish: textOf(given.finish, null),
      thinkingMs: numberOf(given.thinkingMs),
      stats: isObject(given.stats) ? statsOf(given.stats) : null,
    };
  }

  _file(given) {
    if (!isObject(given) || typeof given.name !== "string") throw damaged("A file");
    const kind = oneOf(KINDS, given.kind, "other");
    return {
      id: this._id(given.id, "f_"),
      name: given.name,
      type: textOf(given.type),
      size: numberOf(given.size, 0),
      kind,
    };
  }
}

const damaged = (what) => new Error(`${what} in this file is damaged.`);

const errorOf = ({ message, code, status, retryAfter }) => ({
  message: textOf(message, "The answer failed."),
  code: textOf(code),
  status: numberOf(status, 0),
  retryAfter: numberOf(retryAfter),
});

function statsOf(given) {
  const names = ["prompt", "completion", "reasoning", "cost", "ttft", "duration", "queued", "speed"];
  const stats = Object.fromEntries(names.map((name) => [name, numberOf(given[name])]));
  return { ...stats, estimated: given.estimated === true };
}

/** Make a blob of a data URL; `fetch` may not read those under our policy. */
function blobOf(data, type) {
  let letters;
  try {
    letters = atob(textOf(data).slice(textOf(data).indexOf(",") + 1));
  } catch {
    throw damaged("A file");
  }
  return new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))], { type });
}
