// The direction of a block: that of most of its letters. The first letter alone is often wrong: right-to-left
// paragraphs begin with the Latin names of programs. What stands inside a right-to-left block goes with it.

/** Code, formulas and addresses are not counted. */
const FOREIGN = /`[^`]*`|\$[^$\n]*\$|https?:\/\/\S+|<[^>\n]*>|&[#\w]+;/g;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/gu;
const LETTER = /\p{L}/gu;
/** More text than this is not read: it would not change much. */
const ENOUGH = 2000;

/**
 * Return the direction of a text as an attribute; null where it has no letters, and where it stands inside
 * a block that is right-to-left.
 *
 * @param {string} text
 * @param {boolean} [inside] it stands inside a right-to-left block
 * @returns {"rtl" | "ltr" | null}
 */
export function direction(text, inside = false) {
  if (inside) return null;
  const words = text.slice(0, ENOUGH).replace(FOREIGN, " ");
  const letters = words.match(LETTER)?.length ?? 0;
  if (letters === 0) return null;
  const right = words.match(RIGHT_TO_LEFT)?.length ?? 0;
  return right * 2 >= letters ? "rtl" : "ltr";
}

/**
 * Return the direction of a table's cell. In a right-to-left table figures keep their signs in place.
 *
 * @param {string} text
 * @param {boolean} inside
 */
export function cellDirection(text, inside) {
  if (inside) return text.search(RIGHT_TO_LEFT) < 0 ? "ltr" : null;
  return direction(text);
}
