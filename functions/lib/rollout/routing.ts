import { createHash } from "node:crypto";
import * as z from "zod";
import type { ObservedWeights } from "../../../events/cluster-port.ts";
import { AxonError } from "../../../events/errors.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import { routeKey } from "../../../events/redis-keys.ts";
import { type Weight, weightsSchema } from "../../../events/rollout-events.ts";
import type { Deps } from "../deps.ts";
import type { Model } from "../models.ts";
import { json } from "../provider.ts";
import { runScript } from "../redis-script.ts";
import type { RequestLog } from "../request-log.ts";
import { rolloutState } from "../streams.ts";

/**
 * Routing: which revision of a model a turn gets. The weights stand in Redis, where the rollout manager
 * puts them; a conversation's place among them follows from its id alone, so nothing is kept for each
 * conversation, and it changes its revision only when the weights move, between two turns. A turn that
 * was requested keeps the revision that its log names.
 */

const weightsJson = json.pipe(weightsSchema);

/**
 * The revision that a conversation gets: weighted rendezvous hashing. Each revision draws a time from the
 * exponential distribution of its weight, by a hash of itself and the conversation, and the earliest has
 * it. So each gets its share; where weights change, conversations move only to revisions whose share has
 * grown, and no more of them than it has grown by.
 * (D. G. Thaler, C. V. Ravishankar: Using name-based mappings to increase hit rates, 1998; with weights
 * by the logarithmic method of C. Schindelhauer, G. Schomaker: Weighted distributed hash tables, 2005.)
 * @returns undefined where there are no weights.
 */
export function revisionFor(
  weights: readonly Weight[],
  conversationId: string,
): string | undefined {
  let earliest: { revision: string; time: number } | undefined;
  for (const { revision, percent } of weights) {
    const time = -Math.log(uniform(conversationId, revision)) / percent;
    if (earliest === undefined || time < earliest.time) earliest = { revision, time };
  }
  return earliest?.revision;
}

/** A number above 0, up to 1, that looks random and follows from the two names. */
function uniform(conversationId: string, revision: string): number {
  const digest = createHash("sha256")
    .update(JSON.stringify([conversationId, revision]))
    .digest();
  return (digest.readUIntBE(0, 6) + 1) / 2 ** 48;
}

/**
 * The model behind a name, in the revision that the conversation gets; one call to Redis. What Redis has
 * lost is restored from the log; where that has no weights either it is the model's first revision.
 * @throws AxonError unknown_model, also for a model that is out of service; unavailable where the weights
 * cannot be read, or name no revision that this deployment has.
 */
export async function route(
  deps: Pick<Deps, "redis" | "models" | "log">,
  name: string | undefined,
  conversationId: string,
  log: Pick<RequestLog, "warn">,
): Promise<Model> {
  const first = deps.models.pick(name);
  const { model } = first;
  const text =
    (await deps.redis.hget(routeKey(model), "weights")) ?? (await restoreWeights(deps, model));
  if (text === undefined) return first;
  const parsed = weightsJson.safeParse(text);
  if (!parsed.success) {
    throw new AxonError("unavailable", "The model's routing cannot be read. Try again shortly.", {
      cause: parsed.error,
    });
  }
  if (parsed.data.length === 0) {
    throw new AxonError("unknown_model", `${first.model} is out of service.`, { field: "model" });
  }
  const known = parsed.data.filter(({ revision }) => deps.models.withRevision(revision));
  if (known.length < parsed.data.length) {
    log.warn("the routing names a revision that is not deployed here", { weights: parsed.data });
  }
  const found = deps.models.withRevision(revisionFor(known, conversationId) ?? "");
  if (found !== undefined) return found;
  throw new AxonError(
    "unavailable",
    `No revision of ${first.model} is deployed. Try again shortly.`,
  );
}

/**
 * Sets the weights that the log has of a model: a retired one must not come back because Redis has lost that
 * it is, nor traffic go to a revision that has no groups any more.
 * @returns them as JSON; undefined where the log has never had any.
 */
async function restoreWeights(
  { redis, log }: Pick<Deps, "redis" | "log">,
  model: string,
): Promise<string | undefined> {
  const { weights, weightsVersion } = await rolloutState(log, model);
  if (weightsVersion === 0) return undefined;
  await setWeights(redis, model, weights, weightsVersion);
  return JSON.stringify(weights);
}

const setWeightsScript = `
-- Puts a model's weights in force.
-- Guarantee: weights of a lower version than those in force change nothing, whenever they come.
-- KEYS: 1 the model's route
-- ARGV: 1 the weights as JSON, 2 their version
-- Returns 1 when they are in force now, 0 when they are older
local inForce = redis.call('HMGET', KEYS[1], 'weights', 'version')
if (tonumber(inForce[2]) or 0) > tonumber(ARGV[2]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if inForce[1] ~= ARGV[1] then redis.call('HSET', KEYS[1], 'weights', ARGV[1], 'setAt', now) end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
return 1
`;

/** @returns whether they are in force now: false where there are newer ones. */
export async function setWeights(
  redis: RedisClient,
  model: string,
  weights: readonly Weight[],
  version: number,
): Promise<boolean> {
  const text = JSON.stringify(weightsSchema.parse(weights));
  return (await runScript(redis, setWeightsScript, [routeKey(model)], [text, version])) === 1;
}

const routeSchema = z.object({
  weights: weightsJson,
  version: z.coerce.number().int().min(0),
  setAt: z.coerce.number().int().min(0),
});

/**
 * The weights in force, for the rollout manager; undefined where there are none, or what is there cannot
 * be read: then they are to be set.
 */
export async function readWeights(
  redis: RedisClient,
  model: string,
): Promise<ObservedWeights | undefined> {
  return routeSchema.safeParse(await redis.hgetall(routeKey(model))).data;
}
