/** What preact-htm.js exports, as far as the pages use it. */

export interface Ref<T> {
  current: T;
}

/** A node of the virtual tree. */
export interface VNode {
  type: unknown;
  props: unknown;
}

export function h(type: unknown, props: unknown, ...children: unknown[]): VNode;
export function html(strings: TemplateStringsArray, ...values: unknown[]): VNode;
export function render(node: VNode | null, parent: Element): void;
export function useEffect(effect: () => void, inputs?: unknown[]): void;
export function useLayoutEffect(effect: () => void, inputs?: unknown[]): void;
export function useMemo<T>(make: () => T, inputs: unknown[]): T;
export function useRef<T>(initial: T): Ref<T>;
export function useState<T>(initial: T): [T, (value: T) => void];
