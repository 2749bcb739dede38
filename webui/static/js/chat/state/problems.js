// What went wrong, in the visitor's language: the API says it in English, for programs.

import { fill, pluralText, texts } from "../../shell/page.js";

/** @import { ApiError } from "../../shell/api.js" */
/** @import { HistoryBoot, Problem } from "./types.js" */

/**
 * Texts by the API's codes.
 *
 * @type {Record<string, string>}
 */
const BY_CODE = {
  invalid_api_key: texts.problems.signed_out,
  xsrf_refused: texts.problems.out_of_date,
  session_changed: texts.problems.signed_out,
  session_ended: texts.problems.signed_out,
  permission_denied: texts.problems.forbidden,
  conversation_not_found: texts.problems.no_longer_there,
  message_not_found: texts.problems.no_longer_there,
  file_not_found: texts.problems.no_longer_there,
  share_not_found: texts.problems.no_longer_there,
  model_not_found: texts.problems.no_such_model,
  model_not_allowed: texts.problems.model_not_allowed,
  price_unknown: texts.problems.price_unknown,
  no_upstream_configured: texts.problems.not_set_up,
  request_too_large: texts.problems.request_too_large,
  context_length_exceeded: texts.problems.context_exceeded,
  content_filter: texts.problems.filtered,
  document_type_unsupported: texts.problems.document_kind,
  insufficient_quota: texts.problems.budget_used_up,
  server_is_overloaded: texts.problems.overloaded,
  node_unavailable: texts.problems.overloaded,
  store_unavailable: texts.problems.overloaded,
  limits_unavailable: texts.problems.overloaded,
  server_is_draining: texts.problems.restarting,
  upstream_error: texts.problems.provider_wrong,
  upstream_unavailable: texts.problems.provider_away,
  upstream_overloaded: texts.problems.provider_busy,
  upstream_disconnected: texts.problems.provider_lost,
  upstream_connect_timeout: texts.problems.provider_slow,
  upstream_timeout: texts.problems.provider_slow,
  upstream_gap_timeout: texts.problems.provider_stalled,
  upstream_total_timeout: texts.problems.took_too_long,
  abandoned: texts.problems.nobody_read,
  server_error: texts.problems.unexpected,
  shares_off: texts.problems.shares_off,
  history_off: texts.problems.history_off,
  history_unavailable: texts.problems.signed_out,
  history_full: texts.problems.history_full,
};

/** @typedef {[RegExp, (count: number) => string]} Reason what the API's message has, and the text for its number */

/** Why a key cannot be used any more: as for the message box. @type {Reason[]} */
const KEY_ENDS = [
  [/key was revoked/, () => texts.page.key_revoked],
  [/key is disabled/, () => texts.page.key_disabled],
  [/key has expired/, () => texts.page.key_expired],
];

/**
 * Errors whose reason, a limit say, only the API's message names.
 *
 * @type {Record<string, Reason[]>}
 */
const BY_MESSAGE = {
  rate_limit_exceeded: [
    [/requests[^:]*: (\d+) per minute/, (count) => pluralText(texts.problems.requests_minute, count)],
    [/requests[^:]*: (\d+) per day/, (count) => pluralText(texts.problems.requests_day, count)],
    [/tokens: (\d+) per minute/, (count) => pluralText(texts.problems.tokens_minute, count)],
    [/whole limit of (\d+) per minute/, (count) => pluralText(texts.problems.never_fits, count)],
    [/concurrent requests: the limit is (\d+)/, (count) => pluralText(texts.problems.concurrent, count)],
    [/have reserved/, () => texts.problems.budget_reserved],
    [/upstream/, () => texts.problems.provider_limited],
  ],
  invalid_api_key: KEY_ENDS,
  session_ended: KEY_ENDS,
  document_without_text: [
    [/PDF has no text/, () => texts.problems.document_scanned],
    [/no text/, () => texts.problems.document_empty],
  ],
  document_unreadable: [
    [/password/, () => texts.problems.document_password],
    [/old Office/, () => texts.problems.document_old],
    [/damaged\. Open/, () => texts.problems.document_damaged],
    [/too long/, () => texts.problems.document_complex],
  ],
};

/**
 * Return what went wrong; what this page has no text for as the API says it.
 *
 * @param {unknown} error
 */
export function problemWords(error) {
  if (!(error instanceof Error)) return String(error);
  const { code = "" } = /** @type {Partial<ApiError>} */ (error);
  for (const [pattern, text] of BY_MESSAGE[code] ?? []) {
    const found = pattern.exec(error.message);
    if (found) return text(Number(found[1]));
  }
  return BY_CODE[code] ?? error.message;
}

/**
 * Return what to say of a conversation that could not be opened, and what the visitor can do.
 *
 * @param {string | null} id
 * @param {unknown} failure null: it is not there
 * @param {HistoryBoot} place where the visitor's conversations are
 * @returns {Problem}
 */
export function notOpened(id, failure, { place, person }) {
  if (failure) return { text: fill(texts.problems.not_loaded, { why: problemWords(failure) }) };
  if (place === "server") return { text: texts.problems.not_in_history };
  if (person) return { text: texts.problems.not_in_browser };
  const run = () => location.assign(`/login?next=/c/${id}`);
  return { text: texts.problems.sign_in_to_open, action: { name: "signIn", label: texts.chat.sign_in, run } };
}
