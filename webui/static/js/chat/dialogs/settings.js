// What a conversation is asked with: system prompt, parameters, and the request as it will be sent.

import { html, render, useEffect, useState } from "../../../vendor/preact-htm.js";
import { copyFrom, iconPath } from "../../shell/page.js";
import { buildRequest } from "../state/request.js";
import { put } from "../state/store.js";

const PARAMETERS = [
  {
    name: "temperature",
    label: "Temperature",
    min: 0,
    max: 2,
    step: 0.1,
    about: "0 to 2; low is sober, high is inventive",
  },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: 0.05, about: "0 to 1; set this or the temperature" },
  { name: "max_tokens", label: "Longest answer", min: 1, step: 1, about: "in tokens" },
];
const EFFORTS = [
  ["", "As the model likes"],
  ["low", "Low"],
  ["medium", "Medium"],
  ["high", "High"],
];
const ENTER = [
  ["auto", "Sends; on touch screens it makes a new line"],
  ["send", "Always sends"],
  ["newline", "Always makes a new line"],
];

function NumberField({ field, value, set }) {
  const { name, label, min, max, step, about } = field;
  const read = (event) => set(name, event.target.value === "" ? null : event.target.valueAsNumber);
  return html`<div class="field"><label for=${name}>${label}</label>
    <input id=${name} type="number" inputmode="decimal" min=${min} max=${max} step=${step} value=${value ?? ""}
      placeholder="as the model likes" aria-describedby=${`${name}-about`} onInput=${read} />
    <p class="quiet small" id=${`${name}-about`}>${about}</p></div>`;
}

function Choice({ name, label, options, value, set }) {
  return html`<div class="field"><label for=${name}>${label}</label>
    <select id=${name} onChange=${(event) => set(event.target.value)}>
      ${options.map(([key, words]) => html`<option value=${key} selected=${key === (value ?? "")}>${words}</option>`)}
    </select></div>`;
}

function Raw({ request }) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (open) request().then((body) => setText(JSON.stringify(body, shortened, 2)));
  }, [open]);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The request as it is sent next</summary>
    <div class="raw-request">
      <button type="button" class="icon-button small" aria-label="Copy request" title="Copy request"
        onClick=${(event) => copyFrom(event.currentTarget, text)}>
        <svg class="icon" aria-hidden="true"><use href=${iconPath("copy")} /></svg></button>
      <pre tabindex="0"><code>${text}</code></pre>
    </div></details>`;
}

/** Keep images out of what is shown. */
function shortened(_key, value) {
  return typeof value === "string" && value.startsWith("data:")
    ? `${value.slice(0, 40)}… (${value.length} letters)`
    : value;
}

function Settings({ conversation, model, enterSends, acts, close }) {
  const [parameters, setParameters] = useState(conversation.parameters);
  const set = (name, value) => {
    const next = { ...parameters, [name]: value };
    if (value === null || value === "" || Number.isNaN(value)) delete next[name];
    setParameters(next);
    acts.change({ parameters: next });
  };
  return html`
    <h2>This conversation</h2>
    <div class="field"><label for="system">System prompt</label>
      <textarea id="system" rows="5" placeholder="What the model should know and how it should answer, in every turn"
        onInput=${(event) => acts.change({ system: event.target.value })}>${conversation.system}</textarea></div>
    <div class="grid">
      ${PARAMETERS.map(
        (field) => html`<${NumberField} key=${field.name} set=${set} value=${parameters[field.name]}
        field=${field.name === "max_tokens" ? { ...field, max: model.max_output_tokens, about: `in tokens, ${model.name} gives ${model.max_output_tokens.toLocaleString("en")} at most` } : field} />`,
      )}
      <${Choice} name="reasoning_effort" label="Reasoning effort" options=${EFFORTS} value=${parameters.reasoning_effort}
        set=${(value) => set("reasoning_effort", value)} />
    </div>
    <${Raw} request=${acts.request} />
    <h2>Every conversation</h2>
    <${Choice} name="enter" label="The Enter key" options=${ENTER} value=${enterSends} set=${acts.setEnter} />
    <p class="buttons"><button type="button" class="button primary" onClick=${close}>Done</button></p>`;
}

/** Show the settings of a chat's open conversation; changes are kept as they are made. */
export function showSettings(chat, model) {
  const { session, composer } = chat;
  const { conversation } = session;
  const dialog = document.createElement("dialog");
  dialog.className = "settings";
  dialog.setAttribute("aria-label", "Settings");
  dialog.addEventListener("close", () => {
    render(null, dialog);
    dialog.remove();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const acts = {
    change: (changes) => {
      Object.assign(conversation, changes);
      chat.keep(session.saveRecord());
    },
    setEnter: (value) => {
      composer.enterSends = value;
      chat.keep(put("settings", { id: "enter", value }));
    },
    request: () => {
      const line = session.path.filter((message) => message.state !== "open");
      const typed = { role: "user", text: composer.text.value.trim(), files: composer.files };
      return buildRequest(conversation, composer.isEmpty ? line : [...line, typed], model);
    },
  };
  document.body.append(dialog);
  render(
    html`<${Settings} conversation=${conversation} model=${model} enterSends=${composer.enterSends} acts=${acts}
      close=${() => dialog.close()} />`,
    dialog,
  );
  dialog.showModal();
}
