/** What hljs.js exports, as far as the pages use it. */

/** A node of the tree of scopes, an internal field of a result. */
export interface ScopeNode {
  scope?: string;
  children: (ScopeNode | string)[];
}

export interface Highlighter {
  getLanguage(name: string): object | undefined;
  highlight(
    code: string,
    options: { language: string; ignoreIllegals?: boolean },
  ): { value: string; _emitter: { rootNode: ScopeNode } };
}

declare const highlighter: Highlighter;
export default highlighter;
