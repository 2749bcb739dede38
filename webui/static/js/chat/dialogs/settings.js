// The settings: system prompt and parameters of a conversation, the next request; instructions for all
// chats and the Enter key.

import { html, render, useEffect, useState } from "../../../vendor/preact-htm.js";
import { copyFrom } from "../../shell/clipboard.js";
import { showDialog } from "../../shell/dialog.js";
import { count, fill, iconPath, language, texts } from "../../shell/page.js";
import { readNumber } from "./numbers.js";

/** @import { Chat } from "../state/chat.js" */
/** @import { ConversationRecord, EnterKey, Model } from "../state/types.js" */

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {number} min
 * @property {number} max
 * @property {boolean} [whole]
 * @property {string} about
 */

/** @typedef {[string, string][]} Options values and their labels */

/** @type {Field[]} */
const PARAMETERS = [
  {
    name: "temperature",
    label: texts.dialogs.temperature,
    min: 0,
    max: 2,
    about: texts.dialogs.temperature_about,
  },
  { name: "top_p", label: texts.dialogs.top_p, min: 0, max: 1, about: texts.dialogs.top_p_about },
];
/** @type {Options} */
const EFFORTS = [
  ["", texts.dialogs.model_default],
  ["low", texts.dialogs.low],
  ["medium", texts.dialogs.medium],
  ["high", texts.dialogs.high],
];
/** @type {Options} */
const ENTER = [
  ["auto", texts.dialogs.enter_auto],
  ["send", texts.dialogs.enter_send],
  ["newline", texts.dialogs.enter_newline],
];

/**
 * @param {Model} model
 * @returns {Field}
 */
function maxTokens({ name, max_output_tokens: max }) {
  const about = fill(texts.dialogs.max_tokens_about, { model: name, max: count(max) });
  return { name: "max_tokens", label: texts.dialogs.max_tokens, min: 1, max, whole: true, about };
}

/**
 * Return a number as people write it in this language, without marks between thousands.
 *
 * @param {unknown} value
 */
const writtenNumber = (value) =>
  typeof value === "number" ? value.toLocaleString(language, { useGrouping: false, maximumFractionDigits: 20 }) : "";

/**
 * A number as people type it: 0.7 and 0,7; whole ones with 1,000 or 1 000 too. The box has no number as
 * its value: Preact would set "0" while "0." is typed.
 *
 * @param {{ field: Field, value: unknown, set: (name: string, value: number | null) => void }} props
 */
function NumberField({ field, value, set }) {
  const { name, label, about } = field;
  // A number that was set before may be too large for another model, or for who is here now.
  const [wrong, setWrong] = useState(readNumber(writtenNumber(value), field) === undefined);
  /** @param {{ target: HTMLInputElement }} event */
  const typed = ({ target }) => {
    const number = readNumber(target.value, field);
    if (number !== undefined) setWrong(false);
    set(name, number ?? null);
  };
  /** @param {{ target: HTMLInputElement }} event */
  const left = ({ target }) => setWrong(readNumber(target.value, field) === undefined);
  const bounds = { min: count(field.min), max: count(field.max) };
  const help = wrong ? fill(field.whole ? texts.dialogs.whole_wrong : texts.dialogs.number_wrong, bounds) : about;
  return html`<div class="field"><label for=${name}>${label}</label>
    <input id=${name} type="text" inputmode=${field.whole ? "numeric" : "decimal"} autocomplete="off"
      defaultValue=${writtenNumber(value)} placeholder=${texts.dialogs.model_default}
      aria-describedby=${`${name}-about`}
      aria-invalid=${wrong ? "true" : null} onInput=${typed} onChange=${left} />
    <p class=${wrong ? "small wrong" : "quiet small"} id=${`${name}-about`}
      role=${wrong ? "alert" : null}>${help}</p></div>`;
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
      ${options.map(([key, text]) => html`<option value=${key} selected=${key === (value ?? "")}>${text}</option>`)}
    </select></div>`;
}

/** @param {{ nextRequest: () => Promise<object>, made: unknown[] }} props `made`: what the request is made of */
function RawRequest({ nextRequest, made }) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (open) nextRequest().then((request) => setText(JSON.stringify(request, shortened, 2)));
  }, [open, ...made]);
  /** @param {{ target: HTMLDetailsElement }} event */
  const toggled = ({ target }) => setOpen(target.open);
  /** @param {{ currentTarget: HTMLElement }} event */
  const copy = ({ currentTarget }) => copyFrom(currentTarget, text);
  return html`<details onToggle=${toggled}>
    <summary>${texts.dialogs.next_request}</summary>
    <div class="raw-request">
      <button type="button" class="icon-button small" aria-label=${texts.dialogs.copy_request}
        title=${texts.dialogs.copy_request} onClick=${copy}>
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
  return fill(texts.dialogs.shortened, { start: value.slice(0, 40), count: count(value.length) });
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
  const [system, setSystem] = useState(record.system);
  const [instructions, setInstructions] = useState(chat.instructions);
  const model = chat.model ?? [...chat.models.values()][0];
  useEffect(() => {
    // Another device may change the same texts: what is typed next belongs into those.
    chat.on("record", (changed) => changed === record && setSystem(record.system));
    chat.on("settings", () => setInstructions(chat.instructions));
  }, []);
  /**
   * @param {string} name
   * @param {unknown} value
   */
  const set = (name, value) => {
    const next = { ...parameters, [name]: value };
    if (value === null || value === "") delete next[name];
    setParameters(next);
    chat.changeSettings({ parameters: next });
  };
  const [first] = useState(record.parameters); // later ones come from the boxes themselves
  const fields = model ? [...PARAMETERS, maxTokens(model)] : PARAMETERS;
  /** @param {{ target: HTMLTextAreaElement }} event */
  const systemTyped = ({ target }) => {
    setSystem(target.value);
    chat.changeSettings({ system: target.value });
  };
  /** @param {{ target: HTMLTextAreaElement }} event */
  const instructionsTyped = ({ target }) => {
    setInstructions(target.value);
    chat.setInstructions(target.value);
  };
  /** @param {string} value */
  const setEnterKey = (value) => chat.setEnterKey(/** @type {EnterKey} */ (value));
  return html`
    <h2>${texts.dialogs.chat_settings}</h2>
    <div class="field"><label for="system">${texts.dialogs.system}</label>
      <textarea id="system" rows="5" placeholder=${texts.dialogs.system_hint}
        value=${system} onInput=${systemTyped}></textarea></div>
    <div class="grid">
      ${fields.map(
        (field) => html`<${NumberField} key=${field.name} set=${set} value=${first[field.name]} field=${field} />`,
      )}
      <${Choice} name="reasoning_effort" label=${texts.dialogs.effort} options=${EFFORTS}
        value=${parameters.reasoning_effort} set=${(/** @type {string} */ value) => set("reasoning_effort", value)} />
    </div>
    <${RawRequest} nextRequest=${nextRequest} made=${[parameters, system, instructions]} />
    <h2>${texts.dialogs.app_settings}</h2>
    <div class="field"><label for="instructions">${texts.dialogs.instructions}</label>
      <textarea id="instructions" rows="3" placeholder=${texts.dialogs.instructions_hint}
        aria-describedby="instructions-about" value=${instructions} onInput=${instructionsTyped}></textarea>
      <p class="quiet small" id="instructions-about">${texts.dialogs.instructions_about}</p></div>
    <${Choice} name="enter" label=${texts.dialogs.enter_key} options=${ENTER}
      value=${chat.enterKey} set=${setEnterKey} />
    <p class="buttons">
      <button type="button" class="button primary" onClick=${close}>${texts.dialogs.done}</button></p>`;
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
  dialog.setAttribute("aria-label", texts.dialogs.settings);
  const inside = document.createElement("div");
  dialog.append(inside);
  dialog.addEventListener("close", () => render(null, inside));
  const close = () => dialog.close();
  render(html`<${Settings} chat=${chat} record=${record} nextRequest=${nextRequest} close=${close} />`, inside);
  showDialog(dialog);
}
