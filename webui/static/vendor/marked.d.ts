/** What marked.js exports, as far as the pages use it. */

/** One cell of a table. */
export interface Cell {
  text: string;
  align: string | null;
  tokens: Token[];
}

/** One item of a list. */
export interface Item {
  raw: string;
  text: string;
  task: boolean;
  checked?: boolean;
  loose: boolean;
  tokens: Token[];
}

/** A token. Which fields are there depends on its `type`: see marked's own types, and the extensions. */
export interface Token {
  type: string;
  raw: string;
  text: string;
  tokens?: Token[];
  lang?: string;
  codeBlockStyle?: string;
  depth: number;
  href: string;
  title?: string | null;
  ordered: boolean;
  start: number | "";
  checked: boolean;
  loose: boolean;
  items: Item[];
  header: Cell[];
  rows: Cell[][];
  /** Of our own extensions. */
  tex: string;
  display: boolean;
  label: string;
  kind: string;
  head: Token[];
  closed?: boolean;
  opens: boolean;
  closes: boolean;
}

export type Links = Record<string, { href: string; title: string | null }>;

/** `this` of an extension's tokenizer. */
export interface TokenizerThis {
  lexer: {
    inline(source: string, tokens: Token[]): void;
    blockTokens(source: string, tokens: Token[]): Token[];
    state: { top: boolean; inLink: boolean };
    options: { growing?: boolean };
    tokenizer: {
      html(source: string): Token | undefined;
      rules: { block: { blockquote: RegExp } };
    };
  };
}

export class Lexer {
  constructor(options: object);
  tokens: Token[] & { links: Links };
  lex(source: string): Token[] & { links: Links };
  inlineTokens(source: string, tokens?: Token[]): Token[];
  state: { inLink: boolean };
}

export function getDefaults(): Record<string, unknown>;
