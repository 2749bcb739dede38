// The settings: system prompt and parameters of a conversation, the next request, and the Enter key.

import { html, render, useEffect, useState } from "../../../vendor/preact-htm.js";
import { copyFrom, iconPath } from "../../shell/page.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord, EnterKey, Model } from "../state/types.js" */

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {number} min
 * @property {number} [max]
 * @property {number} step
 * @property {string} about
 */

/** @typedef {[string, string][]} Options values and their labels */

/** @type {Field[]} */
const PARAMETERS = [
  {
    name: "temperature",
    label: "Temperature",
    min: 0,
    max: 2,
    step: 0.1,
    about: "0 to 2; lower is more focused, higher is more creative",
  },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: 0.05, about: "0 to 1; set this or the temperature" },
];
/** @type {Options} */
const EFFORTS = [
  ["", "Model default"],
  ["low", "Low"],
  ["medium", "Medium"],
  ["high", "High"],
];
/** @type {Options} */
const ENTER = [
  ["auto", "Sends the message; adds a new line on touch screens"],
  ["send", "Always sends the message"],
  ["newline", "Always adds a new line"],
];

/**
 * @param {Model} model
 * @returns {Field}
 */
function maxTokens({ name, max_output_tokens: max }) {
  const about = `in tokens; ${name} allows up to ${max.toLocaleString("en")}`;
  return { name: "max_tokens", label: "Max. answer length", min: 1, max, step: 1, about };
}

/** @param {{ field: Field, value: unknown, set: (name: string, value: unknown) => void }} props */
function NumberField({ field, value, set }) {
  const { name, label, min, max, step, about } = field;
  /** @param {{ target: HTMLInputElement }} event */
  const read = ({ target }) => set(name, target.value === "" ? null : target.valueAsNumber);
  return html`<div class="field"><label for=${name}>${label}</label>
    <input id=${name} type="number" inputmode="decimal" min=${min} max=${max} step=${step} value=${value ?? ""}
      placeholder="Model default" aria-describedby=${`${name}-about`} onInput=${read} />
    <p class="quiet small" id=${`${name}-about`}>${about}</p></div>`;
}

/**
 * @param {object} props
 * @param {string} props.name
 * @param {string} props.label
 * @param {Options} props.options
 * @param {unknown} props.value
 * @param {(value: string) => void} props.set
 */
function Choice({ name, label, options, value, set }) {
  /** @param {{ target: HTMLSelectElement }} event */
  const changed = ({ target }) => set(target.value);
  return html`<div class="field"><label for=${name}>${label}</label>
    <select id=${name} onChange=${changed}>
      ${options.map(([key, words]) => html`<option value=${key} selected=${key === (value ?? "")}>${words}</option>`)}
    </select></div>`;
}

/** @param {{ nextRequest: () => Promise<object> }} props */
function RawRequest({ nextRequest }) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (open) nextRequest().then((request) => setText(JSON.stringify(request, shortened, 2)));
  }, [open]);
  /** @param {{ target: HTMLDetailsElement }} event */
  const toggled = ({ target }) => setOpen(target.open);
  /** @param {{ currentTarget: HTMLElement }} event */
  const copy = ({ currentTarget }) => copyFrom(currentTarget, text);
  return html`<details onToggle=${toggled}>
    <summary>Next request as JSON</summary>
    <div class="raw-request">
      <button type="button" class="icon-button small" aria-label="Copy request" title="Copy request" onClick=${copy}>
        <svg class="icon" aria-hidden="true"><use href=${iconPath("copy")} /></svg></button>
      <pre tabindex="0"><code>${text}</code></pre>
    </div></details>`;
}

/**
 * Shorten images, for JSON.stringify.
 *
 * @param {string} _key
 * @param {unknown} value
 */
function shortened(_key, value) {
  if (typeof value !== "string" || !value.startsWith("data:")) return value;
  return `${value.slice(0, 40)}… (${value.length} letters)`;
}

/**
 * @param {object} props
 * @param {Chat} props.chat
 * @param {ConversationRecord} props.record
 * @param {() => Promise<object>} props.nextRequest
 * @param {() => void} props.close
 */
function Settings({ chat, record, nextRequest, close }) {
  const [parameters, setParameters] = useState(record.parameters);
  const model = chat.model ?? [...chat.models.values()][0];
  /**
   * @param {string} name
   * @param {unknown} value
   */
  const set = (name, value) => {
    const next = { ...parameters, [name]: value };
    if (value === null || value === "" || Number.isNaN(value)) delete next[name];
    setParameters(next);
    chat.changeSettings({ parameters: next });
  };
  const fields = model ? [...PARAMETERS, maxTokens(model)] : PARAMETERS;
  /** @param {{ target: HTMLTextAreaElement }} event */
  const setSystem = ({ target }) => chat.changeSettings({ system: target.value });
  /** @param {string} value */
  const setEnterKey = (value) => chat.setEnterKey(/** @type {EnterKey} */ (value));
  return html`
    <h2>Chat settings</h2>
    <div class="field"><label for="system">System prompt</label>
      <textarea id="system" rows="5" placeholder="What the model should know, and how it should answer"
        onInput=${setSystem}>${record.system}</textarea></div>
    <div class="grid">
      ${fields.map(
        (field) => html`<${NumberField} key=${field.name} set=${set} value=${parameters[field.name]} field=${field} />`,
      )}
      <${Choice} name="reasoning_effort" label="Reasoning effort" options=${EFFORTS}
        value=${parameters.reasoning_effort} set=${(/** @type {string} */ value) => set("reasoning_effort", value)} />
    </div>
    <${RawRequest} nextRequest=${nextRequest} />
    <h2>App settings</h2>
    <${Choice} name="enter" label="Enter key" options=${ENTER} value=${chat.enterKey} set=${setEnterKey} />
    <p class="buttons"><button type="button" class="button primary" onClick=${close}>Done</button></p>`;
}

/**
 * Show the settings of the open conversation; changes are saved as they are made.
 *
 * @param {Chat} chat
 * @param {ConversationRecord} record
 * @param {() => Promise<object>} nextRequest
 */
export function showSettings(chat, record, nextRequest) {
  const dialog = document.createElement("dialog");
  dialog.className = "settings";
  dialog.setAttribute("aria-label", "Settings");
  dialog.addEventListener("close", () => {
    render(null, dialog);
    dialog.remove();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  const close = () => dialog.close();
  render(html`<${Settings} chat=${chat} record=${record} nextRequest=${nextRequest} close=${close} />`, dialog);
  dialog.showModal();
}
