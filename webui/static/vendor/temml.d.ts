/** What temml.js exports, as far as the pages use it. */

export interface Temml {
  render(
    tex: string,
    parent: Element,
    options: { displayMode: boolean; throwOnError: boolean; trust: boolean; maxExpand: number },
  ): void;
}

declare const temml: Temml;
export default temml;
