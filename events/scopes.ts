/**
 * What a credential may do. A key or a token without a word of its scopes may chat and read its tenant's
 * history, as whoever wrote it before there were scopes expects.
 */
export const scopes = {
  chat: "ask, cancel and resume turns",
  history: "read the tenant's conversations and turns",
  "ops:read": "see the operations page: groups, queues, rollouts, and the tenant's turns",
  "ops:write": "act on what is seen there: rollouts, dead letters, leaders, projections",
} as const;

export type Scope = keyof typeof scopes;

/** All scopes, by name. */
export const scopeNames = Object.keys(scopes) as [Scope, ...Scope[]];

/** Those of a credential that names none. */
export const defaultScopes: readonly Scope[] = ["chat", "history"];
