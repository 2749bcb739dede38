// Messages as a tree that shows all of them: a message whose parent is missing, or is below itself, begins a branch.

/** @import { Message } from "../state/types.js" */

/**
 * Return messages, each below another one of them or at the beginning.
 *
 * @param {Message[]} messages
 * @returns {Message[]}
 */
export function rooted(messages) {
  const known = new Map(messages.map((message) => [message.id, message]));
  /** @type {Set<string>} messages that lead up to the beginning */
  const settled = new Set();
  /** @type {Set<string>} */
  const cut = new Set();
  for (const message of messages) {
    /** @type {Set<string>} */
    const line = new Set();
    let at = message;
    while (!settled.has(at.id) && !line.has(at.id)) {
      line.add(at.id);
      const above = at.parent === null ? undefined : known.get(at.parent);
      if (above) at = above;
      else if (at.parent !== null) cut.add(at.id);
    }
    // The line has come back to one of its own messages, which is not at the beginning.
    if (!settled.has(at.id) && at.parent !== null && known.has(at.parent)) cut.add(at.id);
    for (const id of line) settled.add(id);
  }
  return messages.map((message) => (cut.has(message.id) ? { ...message, parent: null } : message));
}
