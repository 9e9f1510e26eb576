import { AxonError } from "../../../events/errors.ts";
import { type Scope, scopeNames } from "../../../events/scopes.ts";
import type { Identity } from "./authenticate.ts";

/** What a credential may do; apart from how it is checked, which needs more than most functions have. */

/** The scopes that a text with spaces between them names; what else it names is passed over. */
export function scopesIn(text: string): Scope[] {
  const named = text.split(" ");
  return scopeNames.filter((scope) => named.includes(scope));
}

/** @throws AxonError forbidden */
export function requireScope({ scopes }: Identity, scope: Scope): void {
  if (scopes.includes(scope)) return;
  throw new AxonError(
    "forbidden",
    `This credential may not do that: it has not got the scope ${scope}. Ask your operator for a key that has.`,
  );
}
