/**
 * How long a turn's answer took, as columns of a query on `turns`, in ms: `first_token`, until its first token,
 * and `inter_token`, its time after the first token by its tokens after the first; null where there was none.
 */
export const turnLatencies = `
  CASE WHEN completion_tokens > 0 THEN (timings->>'firstTokenMs')::float8 END AS first_token,
  CASE WHEN completion_tokens > 1 AND timings IS NOT NULL THEN greatest(0,
    ((timings->>'totalMs')::float8 - (timings->>'firstTokenMs')::float8) / (completion_tokens - 1)
  ) END AS inter_token`;
