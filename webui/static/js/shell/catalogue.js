// The types of the texts: those of English, which every language has.

/** @typedef {{ one: string, other: string }} Plural */

/**
 * @typedef {{
 *   shell: typeof import("../../../texts/en/shell.json"),
 *   login: typeof import("../../../texts/en/login.json"),
 *   errors: typeof import("../../../texts/en/errors.json"),
 *   share: typeof import("../../../texts/en/share.json"),
 *   docs: typeof import("../../../texts/en/docs.json"),
 *   page: typeof import("../../../texts/en/page.json"),
 *   chat: typeof import("../../../texts/en/chat.json"),
 *   composer: typeof import("../../../texts/en/composer.json"),
 *   answers: typeof import("../../../texts/en/answers.json"),
 *   problems: typeof import("../../../texts/en/problems.json"),
 *   dialogs: typeof import("../../../texts/en/dialogs.json"),
 *   transcript: typeof import("../../../texts/en/transcript.json"),
 *   turns: typeof import("../../../texts/en/turns.json"),
 *   sidebar: typeof import("../../../texts/en/sidebar.json"),
 *   history: typeof import("../../../texts/en/history.json"),
 *   prompts: typeof import("../../../texts/en/prompts.json"),
 *   markdown: typeof import("../../../texts/en/markdown.json"),
 *   titles: typeof import("../../../texts/en/titles.json"),
 *   health: typeof import("../../../texts/en/health.json"),
 *   models: typeof import("../../../texts/en/models.json"),
 *   filters: typeof import("../../../texts/en/filters.json"),
 *   key_dialog: typeof import("../../../texts/en/key_dialog.json"),
 *   once: typeof import("../../../texts/en/once.json"),
 *   keys: typeof import("../../../texts/en/keys.json"),
 *   invitations: typeof import("../../../texts/en/invitations.json"),
 *   usage: typeof import("../../../texts/en/usage.json"),
 *   statement: typeof import("../../../texts/en/statement.json"),
 *   requests: typeof import("../../../texts/en/requests.json"),
 *   live: typeof import("../../../texts/en/live.json"),
 *   recipes: typeof import("../../../texts/en/recipes.json"),
 *   examples: typeof import("../../../texts/en/examples.json"),
 *   figures: typeof import("../../../texts/en/figures.json"),
 * }} Catalogue
 */

export {};
