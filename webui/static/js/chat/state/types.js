// What travels between the parts of the chat page, as types. No code: nothing loads this module.

/** @import { QueuePlace, StreamState } from "../../shell/answer_stream.js" */
/** @import { ConnectionStatus } from "../history/connection.js" */
/** @import { Answer } from "./answer.js" */

// Records of the browser's database

/**
 * @typedef {object} FileRecord
 * @property {string} id
 * @property {string} name
 * @property {string} type
 * @property {number} size
 * @property {"image" | "text" | "other"} kind
 * @property {Blob} [blob] messages and drafts name files without their contents
 * @property {ArrayBuffer} [bytes] the contents in the browser's database, which gives them back as `blob`
 * @property {string} [conversation]
 * @property {number} [tokens] what it adds to a request, estimated
 * @property {boolean} [source] a document as it was attached; the next file is its text, which is sent
 * @property {"page" | "sheet" | "slide"} [unit] what the `units` of the document are
 * @property {number} [units]
 * @property {number} [unitsRead] those whose text is here, where it is not all
 * @property {boolean} [cut] the text is the beginning of a longer one
 */

/**
 * What is typed and not sent.
 *
 * @typedef {{ text: string, files: FileRecord[] }} Draft
 */

/**
 * The ids of two answers each.
 *
 * @typedef {Record<string, string[]>} Pairs
 */

/**
 * `choices`: which child of a message is shown, by the message's id; without a choice the newest.
 *
 * @typedef {object} ConversationRecord
 * @property {string} id
 * @property {string} title
 * @property {number} created
 * @property {number} updated
 * @property {boolean} pinned
 * @property {string} model
 * @property {string} system
 * @property {Record<string, unknown>} parameters
 * @property {Record<string, string>} choices
 * @property {Pairs} [pairs] answers that are shown side by side, by the id of their question
 * @property {Draft | null} draft
 * @property {number | null} deleted
 * @property {boolean} [temporary] kept in this tab only, and gone with it
 * @property {boolean} [answering] whether the server knows of an answer that is being written in it
 */

/**
 * @typedef {object} Question
 * @property {"user"} role
 * @property {string} id
 * @property {string} conversation
 * @property {string | null} parent
 * @property {string} text
 * @property {FileRecord[]} files
 * @property {number} created
 */

/**
 * An error as it is kept with a message. `retryAfter` is in seconds.
 *
 * @typedef {{ message: string, code: string, status: number, retryAfter: number | null }} PlainError
 */

/**
 * What an answer used, as the gateway counted it: tokens, micro-dollars, seconds, tokens per second.
 *
 * @typedef {object} Stats
 * @property {number | null} prompt
 * @property {number | null} completion
 * @property {number | null} reasoning
 * @property {boolean} estimated
 * @property {number | null} cost
 * @property {number | null} ttft
 * @property {number | null} duration
 * @property {number | null} queued
 * @property {number | null} speed
 */

/**
 * `job` is the gateway's id of the request, `seq` the number of its events that were read. Before the
 * answer is `accepted` the gateway may not know it.
 *
 * @typedef {object} AnswerRecord
 * @property {"assistant"} role
 * @property {string} id
 * @property {string} job
 * @property {string} conversation
 * @property {string | null} parent
 * @property {string} model
 * @property {string} text
 * @property {string} reasoning
 * @property {number} created
 * @property {number} seq
 * @property {"open" | "done" | "stopped" | "failed" | "interrupted"} state
 * @property {boolean} accepted
 * @property {PlainError | null} error
 * @property {string | null} finish
 * @property {number | null} thinkingMs
 * @property {Stats | null} stats
 * @property {boolean} [edited] the person has changed the text
 * @property {FirstPart} [continues]
 */

/**
 * The answer that another one continues. Its text, of so many letters, is the beginning of the other's.
 *
 * @typedef {{ id: string, letters: number, stats: Stats | null }} FirstPart
 */

/** @typedef {Question | AnswerRecord} Message */

/** @typedef {{ id: string, text: string, files: FileRecord[] }} QueuedMessage */

/**
 * The messages of a conversation that wait for their turn; `served`: the answer after which the last one
 * was taken.
 *
 * @typedef {{ id: string, messages: QueuedMessage[], served: string | null }} QueueRecord
 */

/**
 * A record of the store "settings": `{ id, value }`, or the queue of a conversation. `unsent`: the server does not have
 * the value yet; it was made `from` this one.
 *
 * @typedef {object} SettingRecord
 * @property {string} id
 * @property {any} [value]
 * @property {{ from: any }} [unsent]
 * @property {QueuedMessage[]} [messages]
 * @property {string | null} [served]
 */

/**
 * The records of each store.
 *
 * @typedef {object} Records
 * @property {ConversationRecord} conversations
 * @property {Message} messages
 * @property {FileRecord} files
 * @property {SettingRecord} settings
 */

/** @typedef {keyof Records} StoreName */
/**
 * Records to save, by their stores. `seen`: conversations as the page saw them before it changed them; only what
 * has changed since then is saved.
 *
 * @typedef {{ [S in StoreName]?: Records[S][] } & { seen?: ConversationRecord[] }} RecordGroups
 */

/**
 * A place where records are kept (see the functions of store.js, which have the same names).
 *
 * @typedef {object} Place
 * @property {string} name
 * @property {() => Promise<boolean>} isPersistent
 * @property {<S extends StoreName>(store: S, id: string) => Promise<Records[S] | undefined>} find
 * @property {<S extends StoreName>(store: S) => Promise<Records[S][]>} all
 * @property {<S extends "messages" | "files">(store: S, conversation: string) => Promise<Records[S][]>} within
 * @property {(groups: RecordGroups) => Promise<void>} putAll
 * @property {(id: string, changes: Partial<ConversationRecord>) => Promise<ConversationRecord | undefined>} change
 * @property {<R extends SettingRecord, T>(initial: R, edit: (record: R) => T) => Promise<T | undefined>} changeSetting
 * @property {(id: string) => Promise<boolean>} isStored
 * @property {(id: string) => Promise<void>} erase
 * @property {(id: string) => Promise<void>} takeBack
 * @property {(ids: string[]) => Promise<void>} eraseMessages
 * @property {() => Promise<void>} eraseAll
 */

/**
 * What listens to a Remote. `changed`: conversations that another tab or device has changed; `erased`: those
 * that are gone.
 *
 * @typedef {object} RemoteListener
 * @property {(ids: string[]) => void} changed
 * @property {(id: string) => void} erased
 * @property {() => void} list
 * @property {() => void} settings
 * @property {() => void} held other files than before did not fit into the history
 * @property {(status: ConnectionStatus) => void} status
 * @property {(text: string) => void} problem
 * @property {(id: string, mine: string, theirs: string) => void} renamed the title of another device was kept
 */

// Answers

/**
 * Where an answer is, and since when (`performance.now()`; Infinity: not known).
 *
 * @typedef {{ name: StreamState | "thinking" | "writing", since: number } & QueuePlace} Phase
 */

/**
 * An action that the page offers, as a button with this label.
 *
 * @typedef {object} Action
 * @property {"again" | "continue" | "export" | "model" | "new" | "reload" | "show" | "signIn" | "switchModel" |
 *   "undo"} name
 * @property {string} label
 * @property {string} [model] the model to switch to
 * @property {() => void} [run] what is done, for actions that only their place knows
 */

// The page

/**
 * A model of the catalog, as the page gets it (see `describe_card` in Python). Prices are in dollars per
 * million tokens, and only for those who have a key.
 *
 * @typedef {object} Model
 * @property {string} id
 * @property {string} name
 * @property {string} description
 * @property {string} maker its name
 * @property {string} best_at what it is best at, in brief
 * @property {string[]} missing the variables that would make it available, for the owner
 * @property {number} context_window
 * @property {number} max_output_tokens
 * @property {boolean} available
 * @property {boolean} demo
 * @property {{ input: string[], output: string[] }} modalities
 * @property {{ prompt: number, completion: number } | null} prices
 * @property {{ mark: string, words: string, about: string } | null} health
 */

/** @typedef {{ limit: number, remaining: number }} Quota */

/**
 * What is left of a visitor's limits; null: the limit is not set.
 *
 * @typedef {object} Remaining
 * @property {Quota | null} [requests] per minute
 * @property {Quota | null} [requests_day]
 * @property {{ limit_microusd: number, spent_microusd: number } | null} [budget]
 */

/**
 * Who uses the page; "nobody": sign-in is required.
 *
 * @typedef {object} Visitor
 * @property {"owner" | "key" | "guest" | "nobody"} kind
 * @property {string} name
 * @property {Remaining | null} remaining
 */

/**
 * Where the visitor's conversations are. `person` marks who has signed in, "" for guests. `place` is "browser"
 * for guests, and for everybody while the owner has switched the history off.
 *
 * @typedef {object} HistoryBoot
 * @property {"server" | "browser"} place
 * @property {string} person
 * @property {number} quota_bytes
 * @property {number} retention_days 0: for ever
 * @property {boolean} shares whether read-only links may be made
 * @property {number} left how many are on the server although the history is switched off
 */

/**
 * What the server puts into the page.
 *
 * @typedef {object} Boot
 * @property {Model[]} models
 * @property {string} title_model the model that writes titles; "": none does
 * @property {Visitor} visitor
 * @property {{ name: string, text: string }[]} prompts the owner's, for everybody
 * @property {number} max_file_bytes
 * @property {number} max_body_bytes
 * @property {HistoryBoot} history
 */

/**
 * Something the visitor has to know. With `wait` seconds nothing can be sent until they have passed; `calm`:
 * it is no problem.
 *
 * @typedef {object} Problem
 * @property {string} text
 * @property {number | null} [wait]
 * @property {Action | null} [action]
 * @property {Action | null} [also] a second action
 * @property {boolean} [calm]
 * @property {string | null} [model] the model that is waited for; null: another one would not help
 * @property {boolean} [away] it only says that the server cannot be reached
 * @property {string | null} [until] the event after which it is not true any more
 */

/** @typedef {"auto" | "send" | "newline"} EnterKey */

/**
 * A message with the words that were searched for; `file`: the name of the file in which they were found.
 *
 * @typedef {{ message: string, words: string[], file: string | null }} Passage
 */

/**
 * The events, and what listeners get.
 *
 * @typedef {object} ChatEvents
 * @property {null} leaving the open conversation is about to be replaced
 * @property {{ path: string, push: boolean }} address the page's address has changed
 * @property {{ text: string, files: FileRecord[], keepFocus: boolean }} opened another conversation is open, with
 *   this draft
 * @property {Message[]} messages the open conversation's shown messages have changed
 * @property {null} status answers under way, the model, the queue or the totals have changed
 * @property {AnswerRecord} asked the open conversation has a new answer
 * @property {Answer} phase
 * @property {Answer} text
 * @property {{ message: AnswerRecord }} stats
 * @property {Answer} end
 * @property {ConversationRecord} record a conversation's record has changed
 * @property {{ id: string }} removed a conversation is gone
 * @property {Passage} passage a passage of the open conversation is to be shown
 * @property {Draft} draft another device has changed what is typed in the open conversation
 * @property {ConnectionStatus} connection how the connection to the history on the server stands
 * @property {null} settings settings may have changed: on another device, or by an import
 * @property {null} held other files than before are only in this browser, for want of room on the server
 * @property {null} records another tab has changed conversations
 * @property {null} deletedElsewhere another tab has deleted the open conversation
 * @property {null} visitor
 * @property {{ text: string, files: FileRecord[] }} returned a message could not be sent
 * @property {Problem} problem
 * @property {null} modelNeeded the open conversation's model is not offered any more
 */

export {};
