// The model picker: a dialog with a search box and the models, those used last first.

import { html, render, useEffect, useRef, useState } from "../../../vendor/preact-htm.js";
import { showDialog } from "../../shell/dialog.js";
import { fill, language, short, texts } from "../../shell/page.js";
import { takesImages } from "../limits.js";
import { fold, wordsOf } from "../search_words.js";

/** @import { Ref } from "../../../vendor/preact-htm.js" */
/** @import { Model } from "../state/types.js" */

/** The context that fills the bar of a model. */
const WHOLE_BAR = 1_048_576;
const RECENT = "roxy-recent-models";
const MAX_RECENT = 8;

/** @returns {string[]} the ids of the models that were chosen last, the newest first */
function recent() {
  try {
    const read = JSON.parse(localStorage.getItem(RECENT) ?? "[]");
    return Array.isArray(read) ? read.map(String) : [];
  } catch {
    return [];
  }
}

/** @param {string} id */
function remember(id) {
  const ids = [id, ...recent().filter((one) => one !== id)].slice(0, MAX_RECENT);
  localStorage.setItem(RECENT, JSON.stringify(ids));
}

/**
 * Return the models in the order of the list: the one in use, those used last, the rest, and at the end
 * those that cannot be used.
 *
 * @param {Model[]} models
 * @param {string} current
 */
function inOrder(models, current) {
  const used = [current, ...recent()];
  /** @param {Model} model */
  const rank = ({ id, available }) => {
    const at = used.indexOf(id);
    return available ? (at < 0 ? used.length : at) : used.length + 1;
  };
  return models.toSorted((one, other) => rank(one) - rank(other));
}

/** @param {number} dollars per million tokens */
function price(dollars) {
  const digits = dollars < 0.1 ? 3 : 2;
  return `$${dollars.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

/** @param {Model} model */
function priceWords({ prices }) {
  return prices ? fill(texts.dialogs.price, { in: price(prices.prompt), out: price(prices.completion) }) : "";
}

/** @param {Model} model */
const missingNames = ({ missing }) =>
  missing.length ? missing.reduce((first, second) => fill(texts.dialogs.or, { first, second })) : "";

/**
 * Return everything about a model, for screen readers.
 *
 * @param {Model} model
 */
function labelOf(model) {
  const facts = [
    model.name,
    model.maker,
    fill(texts.dialogs.context_label, { tokens: short(model.context_window) }),
    priceWords(model),
    takesImages(model) ? texts.dialogs.takes_images : texts.dialogs.text_only,
    model.health?.words,
  ];
  if (!model.available)
    facts.push(texts.dialogs.not_configured, fill(texts.dialogs.set_variables, { names: missingNames(model) }));
  else if (model.demo) facts.push(texts.dialogs.by_demo);
  const known = facts.flatMap((fact) => fact || []);
  return known.reduce((first, rest) => fill(texts.chat.list, { first, rest }));
}

/** @param {{ health: NonNullable<Model["health"]> }} props */
const Health = ({ health }) =>
  html`<span class=${`health ${health.mark}`} title=${health.about}>${health.words}</span>`;

/**
 * @param {object} props
 * @param {Model} props.model
 * @param {boolean} props.active
 * @param {boolean} props.chosen
 * @param {(model: Model) => void} props.choose
 * @param {string} props.id
 */
function Option({ model, active, chosen, choose, id }) {
  /** @type {Ref<HTMLElement | null>} */
  const node = useRef(null);
  useEffect(() => {
    if (active) node.current?.scrollIntoView({ block: "nearest" });
  }, [active]);
  return html`<li ref=${node} id=${id} role="option" class="model" data-active=${active ? "" : null}
    aria-selected=${chosen} aria-disabled=${model.available ? null : "true"} aria-label=${labelOf(model)}
    onClick=${() => choose(model)}>
    <span class="model-name">${model.name}</span>
    <span class="quiet small">${model.maker}</span>
    <span class="badges">
      ${takesImages(model) && html`<span class="badge">${texts.dialogs.images}</span>`}
      ${model.demo && html`<span class="badge">${texts.dialogs.demo}</span>`}
      ${!model.available && html`<span class="badge warn">${texts.dialogs.not_configured}</span>`}
    </span>
    <span class="about">
      ${model.available ? model.description : fill(texts.dialogs.to_use, { names: missingNames(model) })}
    </span>
    <span class="facts">
      <meter min="0" max="1" value=${Math.sqrt(model.context_window / WHOLE_BAR)}></meter>
      <span>${fill(texts.dialogs.context, { tokens: short(model.context_window) })}</span>
      ${model.prices && html`<span>${priceWords(model)}</span>`}
      ${model.health && html`<${Health} health=${model.health} />`}
    </span>
  </li>`;
}

/** @param {{ models: Model[], current: string, choose: (model: Model) => void }} props */
function Picker({ models, current, choose }) {
  const first = models.findIndex((model) => model.id === current);
  const [query, setQuery] = useState("");
  const [active, setActive] = useState(Math.max(first, 0));
  const sought = wordsOf(query);
  const shown = models.filter((model) => {
    const text = fold(`${model.name} ${model.id} ${model.maker} ${model.description}`);
    return sought.every((word) => text.includes(word));
  });
  const at = Math.min(active, shown.length - 1);
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step && shown.length) {
      event.preventDefault();
      setActive((at + step + shown.length) % shown.length);
    } else if (event.key === "Enter" && shown[at]) {
      event.preventDefault();
      choose(shown[at]);
    }
  };
  /** @param {{ target: HTMLInputElement }} event */
  const filter = ({ target }) => {
    setQuery(target.value);
    setActive(0);
  };
  return html`
    <h2>${texts.dialogs.model}</h2>
    <input type="text" role="combobox" aria-expanded="true" aria-controls="models" aria-autocomplete="list"
      aria-activedescendant=${shown[at] ? `model-${at}` : null} 
      aria-label=${texts.dialogs.search_models} autocomplete="off"
      placeholder=${texts.dialogs.search_hint} value=${query} autofocus onInput=${filter} onKeyDown=${pressed} />
    <ul id="models" role="listbox" aria-label=${texts.dialogs.models}>
      ${shown.map(
        (model, n) => html`<${Option} key=${model.id} id=${`model-${n}`} model=${model} active=${n === at}
        chosen=${model.id === current} choose=${choose} />`,
      )}
    </ul>
    ${!shown.length && html`<p class="quiet" role="status">${texts.dialogs.no_models}</p>`}`;
}

/**
 * Let the visitor choose a model. Returns its id, or null.
 *
 * @param {Model[]} models
 * @param {string} current the id of the one in use
 * @returns {Promise<string | null>}
 */
export function pickModel(models, current) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.className = "picker";
    dialog.setAttribute("aria-label", texts.dialogs.choose_model);
    /** @type {string | null} */
    let chosen = null;
    /** @param {Model} model */
    const choose = (model) => {
      if (!model.available) return;
      chosen = model.id;
      remember(model.id);
      dialog.close();
    };
    const inside = document.createElement("div");
    dialog.append(inside);
    dialog.addEventListener("close", () => {
      render(null, inside);
      resolve(chosen);
    });
    render(html`<${Picker} models=${inOrder(models, current)} current=${current} choose=${choose} />`, inside);
    showDialog(dialog);
  });
}
