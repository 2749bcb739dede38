// The settings of a person: kept in this browser's database for reading, and on the server for all devices. A record
// that the server does not have yet says from which value it was made, so that no words of another device are replaced.

import { ApiError, callJson } from "../../shell/api.js";
import { fill, texts } from "../../shell/page.js";
import { joinTexts, secondName } from "../state/records.js";
import { alike } from "./wire.js";

/** @import { Database } from "../state/store.js" */
/** @import { SettingRecord } from "../state/types.js" */
/** @import { Connection } from "./connection.js" */

/** @typedef {{ value: Record<string, any>, version: number }} Stored */

/**
 * Says that the server has the settings (the sign-out asks), but those that are marked. Earlier releases listed here
 * the ids of those that it did not have.
 */
const UNSENT = "settings-unsent";
/** Settings that belong to this browser. */
const LOCAL = ["new", UNSENT];
const ATTEMPTS = 5;
const PROMPT = "prompt-";

/** @param {string} id */
const isLocal = (id) => LOCAL.includes(id) || id.includes(":");

/**
 * Return what becomes of a setting that two devices have changed. Two texts of a prompt are both kept: this device's is
 * the `second` one.
 *
 * @param {string} id
 * @param {any} theirs
 * @param {any} mine
 * @param {any} seen what mine was made from
 * @returns {{ value: any, second?: any }}
 */
export function joinSettings(id, theirs, mine, seen) {
  if (alike(mine, seen)) return { value: theirs };
  if (alike(theirs, seen) || alike(theirs, mine)) return { value: mine };
  if (id === "instructions") return { value: joinTexts(theirs ?? "", mine ?? "", seen ?? "") };
  if (!id.startsWith(PROMPT) || !theirs) return { value: mine };
  if (!mine) return { value: theirs };
  const isMine = (/** @type {"name" | "text"} */ part) => theirs[part] === seen?.[part] || theirs[part] === mine[part];
  const isTheirs = (/** @type {"name" | "text"} */ part) => mine[part] === seen?.[part];
  const parts = /** @type {const} */ (["name", "text"]);
  if (!parts.every((part) => isMine(part) || isTheirs(part)))
    return { value: theirs, second: { ...mine, name: secondName(mine.name) } };
  return { value: Object.fromEntries(parts.map((part) => [part, isTheirs(part) ? theirs[part] : mine[part]])) };
}

/** Joins settings that change here with those that other devices change. */
export class ServerSettings {
  #database;
  #connection;
  /** @type {Stored} */
  #stored = { value: {}, version: 0 };
  /** Done when everything that was heard of the server is taken over. */
  #taking = Promise.resolve();
  #changed = () => {};
  /** @type {(text: string) => void} */
  #say = () => {};

  /**
   * @param {Database} database
   * @param {Connection} connection
   */
  constructor(database, connection) {
    this.#database = database;
    this.#connection = connection;
  }

  /**
   * Send what was not sent before.
   *
   * @param {() => void} changed called when another device has changed settings
   * @param {(text: string) => void} say called when two devices have changed the same one
   */
  async start(changed, say) {
    this.#changed = changed;
    this.#say = say;
    const earlier = (await this.#database.find("settings", UNSENT))?.value ?? [];
    for (const id of earlier) {
      await this.#edit(id, (record) => {
        record.unsent ??= { from: null };
      });
    }
    await this.#database.putAll({ settings: [{ id: UNSENT, value: [] }] });
    if ((await this.#unsent()).length) this.#connection.sendSoon();
  }

  /**
   * @template T
   * @param {string} id
   * @param {(record: SettingRecord) => T} edit
   */
  #edit(id, edit) {
    /** @type {SettingRecord} */
    const initial = { id };
    return this.#database.changeSetting(initial, edit);
  }

  async #unsent() {
    return (await this.#database.all("settings")).filter(({ id, unsent }) => unsent && !isLocal(id));
  }

  /**
   * Save settings here, and send them soon.
   *
   * @param {SettingRecord[]} settings
   */
  async put(settings) {
    const local = settings.filter(({ id }) => isLocal(id));
    if (local.length) await this.#database.putAll({ settings: local });
    if (local.length === settings.length) return;
    for (const { id, value } of settings) {
      if (isLocal(id)) continue;
      await this.#edit(id, (record) => {
        record.unsent ??= { from: record.value ?? null };
        record.value = value;
      });
    }
    this.#connection.sendSoon();
  }

  /** Send what has changed here. Raises ApiError. */
  async send() {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      await this.#taking;
      const { version, value } = this.#stored;
      const unsent = await this.#unsent();
      if (!unsent.length) return;
      const changed = Object.fromEntries(unsent.map((one) => [one.id, one.value ?? null]));
      const body = JSON.stringify({ value: { ...value, ...changed }, version });
      try {
        const stored = await callJson("history/settings", this.#connection.options({ method: "PUT", body }));
        await this.#sent(changed);
        await this.take(stored);
        return;
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 409) throw error;
        await this.take(await callJson("history/settings", this.#connection.options()));
      }
    }
    this.#connection.sendSoon(); // others have written each time
  }

  /** @param {Record<string, any>} changed what the server has now */
  async #sent(changed) {
    for (const [id, value] of Object.entries(changed)) {
      await this.#edit(id, (record) => {
        if (alike(record.value ?? null, value)) delete record.unsent;
        else record.unsent = { from: value };
      });
    }
  }

  /**
   * Take over what the server has.
   *
   * @param {Stored} stored
   */
  take(stored) {
    this.#taking = this.#taking.then(() => this.#take(stored)).catch(() => {}); // no room, or signed out
    return this.#taking;
  }

  /** @param {Stored} stored */
  async #take(stored) {
    if (stored.version <= this.#stored.version) return;
    const known = new Map((await this.#database.all("settings")).map((one) => [one.id, one]));
    let changed = false;
    for (const [id, theirs] of Object.entries(stored.value)) {
      const before = known.get(id);
      if (isLocal(id) || (before && !before.unsent && alike(before.value ?? null, theirs))) continue;
      const second = await this.#edit(id, (record) => joinStored(record, theirs));
      changed = true;
      if (second && id.startsWith(PROMPT)) {
        // Other tabs of this browser find the same, under the same id.
        await this.put([{ id: `${id}-${stored.version}`, value: second }]);
        this.#say(fill(texts.history.two_prompts, { name: second.name }));
      } else if (second) this.#say(texts.history.instructions_joined);
    }
    this.#stored = stored;
    if (changed) this.#changed();
  }
}

/**
 * Take the value of the server over into a record. Returns what the person has to know: the second value, or the
 * joined one.
 *
 * @param {SettingRecord} record
 * @param {any} theirs
 */
function joinStored(record, theirs) {
  if (!record.unsent) {
    record.value = theirs;
    return null;
  }
  const mine = record.value ?? null;
  const { value, second } = joinSettings(record.id, theirs, mine, record.unsent.from);
  record.value = value;
  if (alike(value, theirs)) delete record.unsent;
  else record.unsent = { from: theirs };
  return second ?? (record.id === "instructions" && !alike(value, mine) && !alike(value, theirs) ? value : null);
}
