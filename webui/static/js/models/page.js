// The owner's page of models: "Try it" has one deployment answer a short question.

import { callJson } from "../shell/api.js";
import { fill, part, texts } from "../shell/page.js";
import { RunPanel } from "../shell/run_panel.js";
import { errorWords } from "../shell/run_words.js";

/** @import { ApiError } from "../shell/api.js" */
/** @import { RunPage } from "../shell/run_panel.js" */

/** Models that think first need more than their answer has. */
const MAX_TOKENS = 1000;
const MAX_WAIT_S = "30";

/**
 * What an error means for the owner, by its code; the API's messages are in English.
 *
 * @type {Record<string, string>}
 */
const PROBLEMS = {
  rate_limit_exceeded: texts.models.provider_limited,
  upstream_connect_timeout: texts.models.provider_slow,
  upstream_disconnected: texts.models.provider_lost,
  upstream_error: texts.models.provider_wrong,
  upstream_gap_timeout: texts.models.provider_slow,
  upstream_overloaded: texts.models.provider_overloaded,
  upstream_timeout: texts.models.provider_slow,
  upstream_total_timeout: texts.models.provider_slow,
  upstream_unavailable: texts.models.provider_away,
  limits_unavailable: texts.models.gateway_busy,
  node_unavailable: texts.models.gateway_busy,
  server_is_draining: texts.models.gateway_busy,
  server_is_overloaded: texts.models.gateway_busy,
  invalid_api_key: texts.models.session_over,
  session_changed: texts.models.session_over,
  session_ended: texts.models.session_over,
};

/**
 * @typedef {object} LastFailure how the last request to a deployment has failed
 * @property {string} reason
 * @property {number | null} status
 * @property {string | null} message
 */

/**
 * Return why the last request to a deployment has failed, in lines, or "" when that is not known.
 *
 * @param {DOMStringMap} line the data of the deployment's line
 */
async function causeWords(line) {
  const health = await callJson("health").catch(() => null);
  /** @type {{ id: string, last_failure: LastFailure | null }[]} */
  const all = (health?.models ?? []).flatMap((/** @type {any} */ model) => model.deployments);
  const failure = all.find((one) => one.id === line.deployment)?.last_failure;
  if (!failure) return "";
  /** @type {Record<string, any>} */
  const reasons = texts.health;
  const reason = reasons[`why_${failure.reason}`] ?? failure.reason;
  const status = failure.status ? ` (HTTP ${failure.status})` : "";
  const lines = [fill(texts.models.cause, { reason: `${reason}${status}` })];
  if (failure.reason === "base_url" && line.hint) lines.push(line.hint);
  if (failure.message) lines.push(fill(texts.models.details, { words: failure.message }));
  return lines.join("\n");
}

/**
 * @param {RunPanel} panel
 * @param {ApiError} error
 */
async function showError(panel, error) {
  const code = error.code ?? "";
  panel.answer.hidden = false;
  panel.addError(errorWords(error, PROBLEMS[code]));
  const cause = await causeWords(panel.root.dataset);
  if (cause) panel.addError(cause);
}

/**
 * What is done in the line of a deployment.
 *
 * @type {RunPage}
 */
const TRIAL = {
  start(panel) {
    const { answer, root } = panel;
    part('[data-part="result"]', HTMLElement, root).hidden = false;
    answer.textContent = "";
    answer.hidden = true;
    answer.classList.remove("failed");
    panel.show(texts.models.sending);
    const request = {
      model: root.dataset.model,
      messages: [{ role: "user", content: texts.models.question }],
      max_tokens: MAX_TOKENS,
      stream: true,
    };
    const headers = { "X-Roxy-Deployment": root.dataset.deployment ?? "", "X-Roxy-Max-Wait": MAX_WAIT_S };
    panel.send("try", request, headers);
  },
  delta(panel, text, reasoning) {
    const { answer } = panel;
    if (!text) {
      if (reasoning && answer.hidden) panel.show(texts.models.thinking);
      return;
    }
    if (answer.hidden) panel.show(texts.models.writing);
    answer.hidden = false;
    answer.append(text);
  },
  failed(panel, error) {
    showError(panel, error);
    panel.show(texts.page.failed);
  },
  cut: showError,
  ends: { done: texts.models.works },
};

/** @type {NodeListOf<HTMLElement>} */
const lines = document.querySelectorAll("[data-deployment]");
for (const line of lines) if (line.querySelector('[data-part="run"]')) new RunPanel(line, TRIAL);
document.documentElement.dataset.ready = "";
