/**
 * Who has which page of keys and values. Pages are counted, not copied: sequences that begin with the
 * same tokens share the pages of what they have in common, and a page that nobody uses keeps its
 * content until the room is needed, for the next turn of the same conversation to find.
 *
 * A page is in one of these states:
 *   empty    nothing in it is of use. Exit: used.
 *   used     by one sequence or more. Exits: cached (its content is known by its key), empty.
 *   cached   by nobody, but it can be found by its key. Exits: used, empty (evicted: the one that
 *            was used longest ago goes first, and the last pages of a sequence before its first).
 *
 * The key of a full page says which tokens it holds, and by the key before it all that precede them:
 * compared whole, so that no two contents can be taken for one another.
 */

import { pagePositions } from "./model/page-layout.ts";

/** A page of a sequence. `content` names what is in it once it is full and published. */
export interface HeldPage {
  page: number;
  content?: string;
}

export class PagePool {
  readonly size: number;
  readonly #empty: number[];
  /** Pages that nobody uses, by page, with their key; used longest ago first. */
  readonly #cached = new Map<number, string>();
  /** Pages whose content can be found, used or not. */
  readonly #byKey = new Map<string, HeldPage & { content: string }>();
  readonly #keyOf = new Map<number, string>();
  readonly #users = new Map<number, number>();
  #published = 0;

  constructor(size: number) {
    this.size = size;
    this.#empty = Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  /** Pages that can be had: empty ones, and cached ones that would be evicted. */
  get available(): number {
    return this.#empty.length + this.#cached.size;
  }

  /**
   * The pages that hold the beginning of `tokens`, for sequences of one scope, as many as there are;
   * not counted as used yet. The last token is never among them: it has to be computed to go on.
   */
  find(scope: string, tokens: readonly number[]): HeldPage[] {
    const found: HeldPage[] = [];
    let content = rootOf(scope);
    while ((found.length + 1) * pagePositions < tokens.length) {
      const held = this.#byKey.get(keyOf(content, tokens, found.length));
      if (held === undefined) break;
      found.push(held);
      content = held.content;
    }
    return found;
  }

  /** Of so many pages, how many would leave the available ones if they were used. */
  unused(pages: readonly HeldPage[]): number {
    return pages.filter(({ page }) => this.#cached.has(page)).length;
  }

  use(pages: readonly HeldPage[]): void {
    for (const { page } of pages) {
      this.#cached.delete(page);
      this.#users.set(page, (this.#users.get(page) ?? 0) + 1);
    }
  }

  /** A page of one's own, undefined when there is none left. */
  take(): HeldPage | undefined {
    const page = this.#empty.pop() ?? this.#evict();
    if (page === undefined) return undefined;
    this.#users.set(page, 1);
    return { page };
  }

  /**
   * Makes the pages of a sequence that are full by now findable. `tokens` are those whose keys and
   * values are in the pages.
   */
  publish(scope: string, tokens: readonly number[], pages: HeldPage[]): void {
    const full = Math.floor(tokens.length / pagePositions);
    const first = pages.findIndex(({ content }) => content === undefined);
    if (first < 0) return;
    for (let index = first; index < full; index += 1) {
      const held = pages[index];
      if (held === undefined) return;
      const before = index === 0 ? rootOf(scope) : (pages[index - 1]?.content ?? "");
      const key = keyOf(before, tokens, index);
      const same = this.#byKey.get(key);
      if (same !== undefined) {
        // Another sequence was first. Ours is a copy, but what follows it is found through theirs.
        held.content = same.content;
        continue;
      }
      this.#published += 1;
      const content = String(this.#published);
      held.content = content;
      this.#byKey.set(key, { page: held.page, content });
      this.#keyOf.set(held.page, key);
    }
  }

  /** The sequence uses its pages no more. */
  release(pages: readonly HeldPage[]): void {
    for (const { page } of pages.toReversed()) {
      const users = (this.#users.get(page) ?? 1) - 1;
      if (users > 0) {
        this.#users.set(page, users);
        continue;
      }
      this.#users.delete(page);
      const key = this.#keyOf.get(page);
      if (key === undefined) this.#empty.push(page);
      else this.#cached.set(page, key);
    }
  }

  #evict(): number | undefined {
    const [oldest] = this.#cached;
    if (oldest === undefined) return undefined;
    const [page, key] = oldest;
    this.#cached.delete(page);
    this.#byKey.delete(key);
    this.#keyOf.delete(page);
    return page;
  }
}

/** No content is named like a root: contents are numbers. */
function rootOf(scope: string): string {
  return `scope ${scope}`;
}

function keyOf(before: string, tokens: readonly number[], index: number): string {
  const own = tokens.slice(index * pagePositions, (index + 1) * pagePositions);
  return `${before}:${own.join()}`;
}
