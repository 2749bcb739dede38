// The texts of this page in the visitor's language: the groups of `webui/texts` that the page asked for.

/** @typedef {typeof import("../../../texts/en.json")} Catalogue */

/** @type {Omit<Catalogue, "language">} */
export const texts = JSON.parse(document.body.dataset.texts ?? "{}");

/** The language of the page, for Intl. */
export const language = document.documentElement.lang;

const rules = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

/**
 * Return a text with its placeholders replaced.
 *
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));

/**
 * Return the form of a text for a number, with `{count}` filled in.
 *
 * @param {{ one: string, other: string }} forms
 * @param {number} number
 */
export const pluralText = (forms, number) =>
  fill(rules.select(number) === "one" ? forms.one : forms.other, { count: numbers.format(number) });
