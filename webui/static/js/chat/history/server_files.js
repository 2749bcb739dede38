// The files of a person's conversations: those of this browser that are not sent yet, else the server's.

import { ApiError, call } from "../../shell/api.js";
import { putFile } from "./upload.js";

/** @import { Database } from "../state/store.js" */
/** @import { FileRecord } from "../state/types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { View } from "./view.js" */

/** What is kept in memory of files that were read, in bytes. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/** @param {string} id */
const pathOf = (id) => `history/files/${id}`;

/** Finds and sends files. */
export class ServerFiles {
  #database;
  #view;
  #connection;
  /** @type {Map<string, Promise<FileRecord | undefined>>} those read, the longest unused first */
  #contents = new Map();
  #kept = 0;
  /** @type {Set<string>} the ids of files that the server has for certain */
  #stored = new Set();

  /**
   * @param {Database} database
   * @param {View} view
   * @param {Connection} connection
   */
  constructor(database, view, connection) {
    this.#database = database;
    this.#view = view;
    this.#connection = connection;
  }

  /**
   * Return a file with its contents; undefined when it is gone.
   *
   * @param {string} id
   */
  async find(id) {
    const here = await this.#database.find("files", id);
    if (here) return here;
    const known = this.#view.files.get(id);
    if (!known) return undefined;
    const reading = this.#contents.get(id) ?? this.#fetch(known);
    this.#contents.delete(id);
    this.#contents.set(id, reading);
    return reading;
  }

  /**
   * True if the server has a file. Another device may not have sent it yet, so the server is asked once.
   *
   * @param {string} id
   */
  async isStored(id) {
    if (await this.#database.find("files", id)) return false; // not sent yet
    if (!this.#stored.has(id)) {
      await call(pathOf(id), this.#connection.options({ method: "HEAD" })).then(
        () => this.#stored.add(id),
        () => {}, // then the file is read, which says why
      );
    }
    return this.#stored.has(id);
  }

  /** @param {FileRecord} file */
  async #fetch(file) {
    try {
      const response = await call(pathOf(file.id), this.#connection.options());
      const blob = new Blob([await response.arrayBuffer()], { type: file.type });
      this.#keep(file.size);
      return { ...file, blob };
    } catch (error) {
      this.#contents.delete(file.id);
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** @param {number} size */
  #keep(size) {
    this.#kept += size;
    for (const [id] of this.#contents) {
      if (this.#kept <= MAX_KEPT_BYTES || this.#contents.size < 2) return;
      this.#kept -= this.#view.files.get(id)?.size ?? 0;
      this.#contents.delete(id);
    }
  }

  /**
   * Send a file of this browser. Raises ApiError.
   *
   * @param {string} id
   * @param {string} conversation
   */
  async send(id, conversation) {
    const file = await this.#database.find("files", id);
    if (!file?.blob) return; // it was sent before
    await putFile(file, file.blob, conversation, this.#connection);
    this.#stored.add(id);
    this.#contents.set(id, Promise.resolve({ ...file, conversation }));
    this.#keep(file.size);
  }
}
