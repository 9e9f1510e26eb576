import { createHash } from "node:crypto";
import type { Context, S3Event, S3EventRecord } from "aws-lambda";
import { AxonError } from "../events/errors.ts";
import { parseRolloutRequest, type RolloutRequest } from "../events/rollout-request.ts";
import type { Deps } from "./lib/deps.ts";
import { eventFacts } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { lambda } from "./lib/lambda.ts";
import { type ObjectVersion, objects } from "./lib/objects.ts";
import type { RequestLog } from "./lib/request-log.ts";
import { stack } from "./lib/stack.ts";
import { rollouts } from "./lib/streams.ts";

type ManifestDeps = Pick<Deps, "log" | "readObject" | "now" | "logger">;

/** Where manifests lie in the model bucket; everything else there is not looked at. */
const manifestKey = /^rollouts\/([A-Za-z0-9][A-Za-z0-9._-]{0,99})\/[^/]+\.json$/;

/**
 * Starts the rollouts that manifests ask for which land in the model bucket as rollouts/<model>/<any>.json:
 * the request of events/rollout-request.ts, in which `model`, `by` and `rolloutId` may be left out. One that
 * cannot be read or is refused becomes an event with the reason in the model's stream, and nothing else.
 *
 * Notifications come at least once and in any order. What became of a version of an object is in the log by
 * its name, and is not decided again.
 */
export function manifest(
  deps: ManifestDeps,
): (event: S3Event, context: Context) => Promise<{ handled: number }> {
  return stack(deps, { keysOf: () => ({}) }, async ({ Records }: S3Event, { log }) => {
    for (const record of Records) {
      const version = versionOf(record);
      const model = manifestKey.exec(version.key)?.[1];
      if (model === undefined) log.info("no manifest", { key: version.key });
      else await handleManifest(deps, model, version, log.fork());
    }
    return { handled: Records.length };
  });
}

function versionOf({ s3: { bucket, object } }: S3EventRecord): ObjectVersion {
  const { versionId, eTag } = object;
  // Keys are written as in the query of a URL.
  const key = decodeURIComponent(object.key.replaceAll("+", " "));
  return { bucket: bucket.name, key, eTag, ...(versionId !== undefined && { versionId }) };
}

/** Refusals: asked again, the answer is the same. */
const refusals = new Set(["invalid_field", "rollout_busy", "rollout_refused"]);

async function handleManifest(
  deps: ManifestDeps,
  model: string,
  version: ObjectVersion,
  log: RequestLog,
): Promise<void> {
  const stream = rollouts.nameOf(model);
  log.add({ stream });
  const { bucket, key, eTag, versionId = eTag } = version;
  const source = `s3://${bucket}/${key}`;
  const digest = createHash("sha256").update(`${source} ${versionId}`).digest("hex");
  const rolloutId = `manifest-${digest.slice(0, 24)}`;
  const stamp = { at: deps.now(), model };
  const reject = (reason: string) =>
    ({ type: "RejectRequest", ...stamp, rolloutId, source, reason }) as const;
  try {
    const text = await deps.readObject(version);
    if (text === undefined) {
      log.info("a manifest is there no more", { key });
      return;
    }
    const request = requestOf(text, { model, rolloutId, by: source });
    const start = { type: "StartRollout", ...stamp, request } as const;
    const { events } = await execute(deps.log, rollouts, model, ({ state }) =>
      // Refused before, it stays so, though it might be let in by now.
      state.seen.includes(rolloutId) ? reject("it was refused before") : start,
    );
    log.info("a manifest was read", { key, events: events.map(({ type }) => type) });
  } catch (error) {
    if (!(error instanceof AxonError) || !refusals.has(error.code)) throw error;
    await execute(deps.log, rollouts, model, () => reject(error.message));
    log.warn("a manifest was refused", { key, reason: error.message });
  }
}

/** @throws AxonError invalid_field */
function requestOf(
  text: string,
  names: Pick<RolloutRequest, "model" | "rolloutId" | "by">,
): RolloutRequest {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (cause) {
    throw new AxonError("invalid_field", "It is not JSON.", { cause });
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new AxonError("invalid_field", "It is not a JSON object.");
  }
  // Who asked is the bucket, whatever the manifest says.
  const request = parseRolloutRequest({ ...names, ...given, by: names.by });
  if (request.model === names.model) return request;
  throw new AxonError(
    "invalid_field",
    `model: is ${request.model}, but the manifest lies in the folder of ${names.model}.`,
    { field: "model" },
  );
}

export const handler = lambda(manifest, [eventFacts, objects]);
