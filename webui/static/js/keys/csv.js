// Tables as CSV that spreadsheets open without running anything.

/** Spreadsheets run cells that begin so as formulas (OWASP, "CSV Injection"). */
const FORMULA_START = /^[=+\-@\t\r]/;
const TO_QUOTE = /[",\r\n]/;

/**
 * Return a cell: quoted where it must be, and with an apostrophe before what would be a formula.
 *
 * @param {string} text
 */
function csvCell(text) {
  const harmless = FORMULA_START.test(text) ? `'${text}` : text;
  return TO_QUOTE.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/**
 * Return rows as CSV (RFC 4180).
 *
 * @param {string[][]} rows
 */
export const asCsv = (rows) => rows.map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
