// The model picker: a dialog with a box to filter and a list, told to screen readers in full.

import { html, render, useEffect, useRef, useState } from "../../../vendor/preact-htm.js";
import { short } from "../../shell/page.js";

const WHOLE_BAR = 1_048_576;

/** Write a price: dollars per million tokens. */
const price = (dollars) => `$${dollars < 0.1 ? dollars.toFixed(3) : dollars.toFixed(2)}`;

/** Say what a model costs. */
export const prices = (model) =>
  model.prices
    ? `${price(model.prices.prompt)} in, ${price(model.prices.completion)} out per million tokens`
    : "price unknown";

const takesImages = (model) => model.modalities.input.includes("image");

function label(model) {
  const facts = [
    model.name,
    `context ${short(model.context_window)} tokens`,
    prices(model),
    takesImages(model) ? "takes images" : "text only",
  ];
  if (model.health) facts.push(model.health.words);
  if (!model.available) facts.push("not configured");
  else if (model.demo) facts.push("answered by the demo script");
  return facts.join(", ");
}

function Option({ model, active, chosen, choose, id }) {
  const node = useRef(null);
  useEffect(() => {
    if (active) node.current.scrollIntoView({ block: "nearest" });
  }, [active]);
  return html`<li ref=${node} id=${id} role="option" class="model" data-active=${active ? "" : null}
    aria-selected=${chosen} aria-disabled=${model.available ? null : "true"} aria-label=${label(model)}
    onClick=${() => choose(model)}>
    <span class="model-name">${model.name}</span>
    <span class="quiet small">${model.owned_by}</span>
    <span class="badges">
      ${takesImages(model) && html`<span class="badge">images</span>`}
      ${model.demo && html`<span class="badge">demo</span>`}
      ${!model.available && html`<span class="badge warn">not configured</span>`}
    </span>
    <span class="about">${model.description}</span>
    <span class="facts">
      <meter min="0" max="1" value=${Math.sqrt(model.context_window / WHOLE_BAR)}></meter>
      <span>${short(model.context_window)} context</span><span>${prices(model)}</span>
      ${model.health && html`<span class=${`health ${model.health.mark}`} title=${model.health.about}>${model.health.words}</span>`}
    </span>
  </li>`;
}

function Picker({ models, current, choose }) {
  const [query, setQuery] = useState("");
  const [active, setActive] = useState(
    Math.max(
      models.findIndex((model) => model.id === current),
      0,
    ),
  );
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = models.filter((model) => {
    const text = `${model.name} ${model.id} ${model.owned_by} ${model.description}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const at = Math.min(active, shown.length - 1);
  const pressed = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) {
      event.preventDefault();
      setActive((at + step + shown.length) % shown.length);
    } else if (event.key === "Enter" && shown[at]) {
      event.preventDefault();
      choose(shown[at]);
    }
  };
  return html`
    <h2>Model</h2>
    <input type="text" role="combobox" aria-expanded="true" aria-controls="models" aria-autocomplete="list"
      aria-activedescendant=${shown[at] ? `model-${at}` : null} aria-label="Filter models" autocomplete="off"
      placeholder="Filter by name or maker" value=${query} autofocus
      onInput=${(event) => {
        setQuery(event.target.value);
        setActive(0);
      }} onKeyDown=${pressed} />
    <ul id="models" role="listbox" aria-label="Models">
      ${shown.map(
        (model, n) => html`<${Option} key=${model.id} id=${`model-${n}`} model=${model} active=${n === at}
        chosen=${model.id === current} choose=${choose} />`,
      )}
    </ul>
    ${!shown.length && html`<p class="quiet" role="status">No model is called that.</p>`}`;
}

/** Let a model be chosen; gives its id, or null. */
export function pickModel(models, current) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.className = "picker";
    dialog.setAttribute("aria-label", "Choose a model");
    let chosen = null;
    const choose = (model) => {
      chosen = model.id;
      dialog.close();
    };
    dialog.addEventListener("close", () => {
      render(null, dialog);
      dialog.remove();
      resolve(chosen);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.body.append(dialog);
    render(html`<${Picker} models=${models} current=${current} choose=${choose} />`, dialog);
    dialog.showModal();
  });
}
