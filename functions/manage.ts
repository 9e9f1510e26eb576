import type { Context, DynamoDBBatchResponse, DynamoDBStreamEvent } from "aws-lambda";
import * as z from "zod";
import { groupStream, rolloutStream } from "../events/event-log.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { cluster } from "./lib/eks/cluster.ts";
import { eventFacts } from "./lib/event-log.ts";
import { isOutage } from "./lib/failures.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { redis } from "./lib/redis.ts";
import type { RequestLog } from "./lib/request-log.ts";
import { type ManageDeps, type Managed, manageModel } from "./lib/rollout/manage-model.ts";
import { managedModels } from "./lib/rollout/managed-models.ts";
import { stack } from "./lib/stack.ts";
import { groups, load } from "./lib/streams.ts";

/** What the schedule sends: nothing, or the one model to look after. */
const tickSchema = z.looseObject({ model: z.string().optional() });

export type ManageTick = z.input<typeof tickSchema>;
export interface ManageResult extends DynamoDBBatchResponse {
  /** By model; `failed` where it could not be looked after. */
  models: Record<string, Managed | "failed">;
}

/**
 * Looks after the rollouts and the groups of every model: with each tick of the clock, and of one model when
 * something was written about it. What a call misses the next tick finds, so a record of the table's stream
 * is never given back; a tick that fails fails its call, for the alarm to count.
 */
export function manage(
  deps: ManageDeps & Pick<Deps, "models">,
): (event: DynamoDBStreamEvent | ManageTick, context: Context) => Promise<ManageResult> {
  return stack(
    deps,
    { keysOf: () => ({}) },
    async (event: DynamoDBStreamEvent | ManageTick, { log }) => {
      const result: ManageResult = { batchItemFailures: [], models: {} };
      const isTick = !isTableEvent(event);
      const models = isTick ? await modelsOfTick(deps, event) : await modelsOfRecords(deps, event);
      let failure: unknown;
      for (const model of models) {
        try {
          result.models[model] = await manageModel(deps, model, log.fork());
        } catch (error) {
          // One that cannot be seen must not keep the others from being looked after.
          result.models[model] = "failed";
          failure ??= error;
          tellFailure(log, model, error);
        }
      }
      if (isTick && failure !== undefined) throw failure;
      return result;
    },
  );
}

function tellFailure(log: RequestLog, model: string, error: unknown): void {
  log[isOutage(error) ? "warn" : "error"]("a model is not looked after", { model, error });
}

function isTableEvent(event: DynamoDBStreamEvent | ManageTick): event is DynamoDBStreamEvent {
  return "Records" in event && Array.isArray(event.Records);
}

async function modelsOfTick(
  deps: Parameters<typeof managedModels>[0],
  tick: ManageTick,
): Promise<string[]> {
  const { model } = tickSchema.parse(tick);
  return model === undefined ? managedModels(deps) : [model];
}

/** The models that the records say something of, each once. */
async function modelsOfRecords(
  { log }: Pick<Deps, "log">,
  { Records }: DynamoDBStreamEvent,
): Promise<Set<string>> {
  const names = new Set(Records.map(({ dynamodb }) => dynamodb?.Keys?.["stream"]?.S ?? ""));
  const models = new Set<string>();
  for (const name of names) {
    if (name.startsWith(rolloutStream(""))) models.add(name.slice(rolloutStream("").length));
    if (!name.startsWith(groupStream(""))) continue;
    const { state } = await load(log, groups, name.slice(groupStream("").length));
    if (state.status !== "none") models.add(state.model);
  }
  return models;
}

export const handler = lambda(manage, [eventFacts, redis, database, models, cluster]);
