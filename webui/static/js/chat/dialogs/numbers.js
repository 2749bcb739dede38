// Numbers as people type them.

/**
 * Return the number that was typed; null for nothing, undefined for something else or outside the bounds.
 * The decimal mark is a point or a comma; whole numbers may be grouped: 1,000, 1.000 or 1 000.
 *
 * @param {string} typed
 * @param {{ min: number, max: number, whole?: boolean }} bounds
 */
export function readNumber(typed, { min, max, whole = false }) {
  const text = typed.trim();
  if (!text) return null;
  const plain = whole ? text.replace(/(?<=\d)[.,\s’'](?=\d{3}(?!\d))/g, "") : text.replace(",", ".");
  if (!(whole ? /^\d+$/ : /^(\d+\.?\d*|\.\d+)$/).test(plain)) return undefined;
  const number = Number(plain);
  return number >= min && number <= max ? number : undefined;
}
