import * as z from "zod";
import type { ObservedData, ViewQuestion } from "../../../events/views.ts";
import { turnLatencies } from "../history/turn-latencies.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";

const rowSchema = z.object({
  bucket: z.int(),
  turns: z.int(),
  failed: z.int(),
  tokens: z.coerce.number(),
  first_p50: z.number().nullable(),
  first_p95: z.number().nullable(),
  inter_p50: z.number().nullable(),
  inter_p95: z.number().nullable(),
});

const measured = `
  SELECT status, ended_at, completion_tokens AS tokens, ${turnLatencies}
  FROM turns
  WHERE ended_at >= $1 AND ended_at < $2
    AND ($3::text IS NULL OR revision = $3) AND ($4::text IS NULL OR tenant_id = $4)`;

const figures = `
  count(*)::int AS turns,
  count(*) FILTER (WHERE status = 'failed')::int AS failed,
  coalesce(sum(tokens), 0) AS tokens,
  percentile_disc(0.5) WITHIN GROUP (ORDER BY first_token) AS first_p50,
  percentile_disc(0.95) WITHIN GROUP (ORDER BY first_token) AS first_p95,
  percentile_disc(0.5) WITHIN GROUP (ORDER BY inter_token) AS inter_p50,
  percentile_disc(0.95) WITHIN GROUP (ORDER BY inter_token) AS inter_p95`;

/** Turns by when they have ended, as far as the projection has told them. Empty buckets are there, too. */
export async function seeSeries(
  { database, now }: Pick<OperatorDeps, "database" | "now">,
  { windowMs, buckets, revision }: Omit<Extract<ViewQuestion, { view: "series" }>, "view">,
  viewer: Viewer,
): Promise<ObservedData["series"]> {
  const to = now();
  const bucketMs = Math.ceil(windowMs / buckets);
  const from = to - bucketMs * buckets;
  const { rows } = await database.query(
    `WITH ended AS (${measured})
     SELECT floor((extract(epoch FROM ended_at) * 1000 - $5) / $6)::int AS bucket, ${figures}
     FROM ended GROUP BY 1`,
    [new Date(from), new Date(to), revision ?? null, viewer.tenantId ?? null, from, bucketMs],
  );
  const found = new Map(
    z
      .array(rowSchema)
      .parse(rows)
      .map((row) => [row.bucket, row]),
  );
  const points = Array.from({ length: buckets }, (_, i) => {
    const row = found.get(i);
    return {
      at: from + i * bucketMs,
      turns: row?.turns ?? 0,
      failed: row?.failed ?? 0,
      tokensPerSecond: ((row?.tokens ?? 0) / bucketMs) * 1_000,
      firstTokenP50Ms: row?.first_p50 ?? null,
      firstTokenP95Ms: row?.first_p95 ?? null,
      interTokenP50Ms: row?.inter_p50 ?? null,
      interTokenP95Ms: row?.inter_p95 ?? null,
    };
  });
  return { from, to, bucketMs, points };
}

/** The whole of a time as one figure. */
export async function seeSpan(
  deps: Pick<OperatorDeps, "database" | "now">,
  windowMs: number,
  viewer: Viewer,
): Promise<ObservedData["series"]["points"][number]> {
  const { points } = await seeSeries(deps, { windowMs, buckets: 1 }, viewer);
  const [point] = points;
  if (point === undefined) throw new RangeError("One bucket was asked for, and there is none.");
  return point;
}
