/**
 * What a credential may do. A key or a token without a word of its scopes may chat and read its tenant's
 * history, as whoever wrote it before there were scopes expects.
 */
const scopes = {
  chat: "ask, cancel and resume turns",
  history: "read the tenant's conversations and turns",
  "ops:read": "see the operations page: groups, queues, rollouts, and the tenant's turns",
  "ops:write": "act on what is seen there: rollouts, dead letters, leaders, projections",
  keys: "make, rotate and revoke the tenant's API keys",
} as const;

export type Scope = keyof typeof scopes;

export const scopeNames = Object.keys(scopes) as [Scope, ...Scope[]];

export const defaultScopes: readonly Scope[] = ["chat", "history"];
