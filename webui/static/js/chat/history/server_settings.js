// The settings of a person: kept in this browser's database for reading, and on the server for all devices.

import { ApiError, callJson } from "../../shell/api.js";
import { alike } from "./wire.js";

/** @import { Database } from "../state/store.js" */
/** @import { SettingRecord } from "../state/types.js" */
/** @import { Link } from "./link.js" */

/** The ids of settings that the server does not have yet. */
const UNSENT = "settings-unsent";
/** Settings that belong to this browser. */
const LOCAL = ["new", UNSENT];
const ATTEMPTS = 5;

/** @param {string} id */
const isLocal = (id) => LOCAL.includes(id) || id.includes(":");

/** Joins settings that change here with those that other devices change. */
export class ServerSettings {
  #database;
  #link;
  /** @type {{ value: Record<string, any>, version: number }} */
  #stored = { value: {}, version: 0 };
  /** @type {Set<string>} */
  #unsent = new Set();
  #changed = () => {};

  /**
   * @param {Database} database
   * @param {Link} link
   */
  constructor(database, link) {
    this.#database = database;
    this.#link = link;
  }

  /**
   * Note what was not sent before.
   *
   * @param {() => void} changed called when another device has changed settings
   */
  async start(changed) {
    this.#changed = changed;
    const unsent = (await this.#database.find("settings", UNSENT))?.value ?? [];
    for (const id of unsent) this.#unsent.add(id);
    if (unsent.length) this.#link.sendSoon();
  }

  /**
   * Save settings here, and send them soon.
   *
   * @param {SettingRecord[]} settings
   */
  async put(settings) {
    for (const { id } of settings) if (!isLocal(id)) this.#unsent.add(id);
    await this.#database.putAll({ settings: [...settings, this.#list()] });
    if (this.#unsent.size) this.#link.sendSoon();
  }

  #list() {
    return { id: UNSENT, value: [...this.#unsent] };
  }

  /** Send what has changed here. Raises ApiError. */
  async send() {
    const ids = [...this.#unsent];
    if (!ids.length) return;
    const found = await Promise.all(ids.map((id) => this.#database.find("settings", id)));
    const changed = Object.fromEntries(found.flatMap((one) => (one ? [[one.id, one.value ?? null]] : [])));
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { version, value } = this.#stored;
      const body = JSON.stringify({ value: { ...value, ...changed }, version });
      try {
        this.#note(await callJson("history/settings", this.#link.options({ method: "PUT", body })));
        break;
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 409) throw error;
        await this.take(await callJson("history/settings", this.#link.options()));
      }
    }
    for (const { id, value } of found.flatMap((one) => one ?? [])) {
      const now = await this.#database.find("settings", id);
      if (JSON.stringify(now?.value) === JSON.stringify(value)) this.#unsent.delete(id);
    }
    await this.#database.putAll({ settings: [this.#list()] });
    await this.take(this.#stored); // another device may have changed the same ones meanwhile
  }

  /** @param {{ value: Record<string, any>, version: number }} stored */
  #note(stored) {
    if (stored.version >= this.#stored.version) this.#stored = stored;
  }

  /**
   * Take over what the server has.
   *
   * @param {{ value: Record<string, any>, version: number }} stored
   */
  async take(stored) {
    this.#note(stored);
    const settings = [];
    for (const [id, value] of Object.entries(this.#stored.value)) {
      if (this.#unsent.has(id) || isLocal(id)) continue;
      if (!alike((await this.#database.find("settings", id))?.value, value)) settings.push({ id, value });
    }
    if (!settings.length) return;
    await this.#database.putAll({ settings });
    this.#changed();
  }
}
