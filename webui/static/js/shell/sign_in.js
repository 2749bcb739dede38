// The sign-in form: shows the key on demand, and keeps a wrong one in its field. It also works without this.

import { part, texts } from "./page.js";

const form = part("#sign-in", HTMLFormElement);
const field = part("#key", HTMLInputElement);
const problem = part("#problem", HTMLElement);
const button = part("#show-key", HTMLButtonElement);

/** @param {boolean} shown */
function show(shown) {
  field.type = shown ? "text" : "password";
  button.setAttribute("aria-pressed", String(shown));
  button.textContent = shown ? texts.login.hide : texts.login.show;
}

/** @param {string} text */
function refuse(text) {
  problem.textContent = text;
  problem.hidden = false;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "problem");
  field.focus();
  field.select();
}

async function signIn() {
  problem.hidden = true;
  const body = new URLSearchParams(/** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form))));
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body });
    const read = await answer.json();
    if (answer.ok) location.assign(read.next);
    else refuse(read.error.message);
  } catch {
    refuse(texts.login.unreachable);
  }
}

button.hidden = false;
button.addEventListener("click", () => show(field.type === "password"));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(false); // password managers save the value of a password field only
  signIn();
});
