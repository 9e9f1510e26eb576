import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { groupIdOf } from "../../events/rollout-state.ts";
import { pause } from "../bell.ts";
import { type RunningChild, startChild } from "../child-process.ts";
import { type DataFolder, writeAtomically } from "../data-folder.ts";
import type { StageEngine } from "../engine.ts";
import type { Roster, StagePart } from "../roster.ts";
import { LocalGroups } from "./group-supervisor.ts";
import { queueUrlOf } from "./queue-names.ts";
import { type RevisionFile, readRevision, revisionsFolder } from "./revisions.ts";
import { openWanted } from "./wanted.ts";

const groupScript = new URL("../../dataplane/worker.ts", import.meta.url);

const groupSchema = z.looseObject({
  groupId: z.string(),
  revision: z.string(),
  ranks: z.array(z.object({ rank: z.number(), pid: z.number() })),
  probes: z.string().optional(),
});

export interface StageGroupsOptions {
  folder: DataFolder;
  roster: Roster;
  /** What the stage was started with, and where that lies. */
  engine: StageEngine;
  modelDir: string;
  ranks: number;
  /** Groups that serve it, where nothing is known of the model yet. */
  groups: number;
  /** Groups that there is room for, of all revisions. */
  room: number;
}

export interface StageGroups {
  supervisor: LocalGroups;
  /** Lets groups start: with this environment, which names the queue of the stage's own revision. */
  open(env: NodeJS.ProcessEnv): void;
  /**
   * Waits for each where all are of the stage's own revision; else until there is one to talk to, and a moment more.
   * @throws what keeps the first from starting.
   */
  ready(): Promise<void>;
  stop(): Promise<void>;
}

/** The first that is ready is soon followed by the others, but for one that cannot start: that is waited for no longer. */
const othersMs = 3_000;

/**
 * The groups of a stage: those that were wanted when it ran last, or, for a model that it knows nothing
 * of, the first ones of its revision.
 */
export function stageGroups(options: StageGroupsOptions): StageGroups {
  const { folder, roster, engine } = options;
  const { model, env, isHashed } = engine;
  mkdirSync(revisionsFolder(folder.path), { recursive: true });
  writeRevision(folder.path, model.revision, {
    ...{ model: model.model, path: options.modelDir, isHashed, env },
  });
  const environment = Promise.withResolvers<NodeJS.ProcessEnv>();
  let changed = () => {};
  const wanted = openWanted(folder.at("cluster.json"));
  const isNew = !wanted.now().groups.some((group) => group.model === model.model);
  if (isNew) wanted.change(withFirst(wanted.now(), options));
  const supervisor = new LocalGroups({
    ...{ wanted, room: options.room, note: roster.note, changed: () => changed() },
    start: async ({ groupId, revision, number }, signal) => {
      const env = await unlessAborted(environment.promise, signal);
      const name = nameOf(number);
      return startChild({
        ...{ name, script: groupScript, signal },
        env: { ...env, ...groupEnvironment(options, env, { groupId, revision }) },
        logFile: folder.logFile(name.replace(" ", "-")),
        ...{ readyWithinMs: 120_000, stopWithinMs: 15_000 },
      });
    },
  });
  changed = roster.include(() => supervisor.list().flatMap(describe));
  const kept = supervisor.resume(model.model);
  return {
    supervisor,
    open: environment.resolve,
    async ready() {
      const firsts = kept.map(({ first }) => first);
      const own = supervisor.list().filter(({ revision }) => revision === model.revision);
      if (own.length === kept.length || isNew) {
        const results = await Promise.allSettled(firsts);
        for (const result of results) if (result.status === "rejected") throw result.reason;
        return;
      }
      await Promise.any(firsts).catch(() => {});
      const settled = new AbortController();
      void Promise.allSettled(firsts).then(() => settled.abort());
      await pause(othersMs, settled.signal);
    },
    stop: () => supervisor.stop(),
  };
}

/** Puts a revision where groups find it. */
export function writeRevision(dataDir: string, revision: string, file: RevisionFile): void {
  writeAtomically(join(revisionsFolder(dataDir), `${revision}.json`), file);
}

function withFirst(
  before: ReturnType<ReturnType<typeof openWanted>["now"]>,
  {
    engine: {
      model: { model, revision },
    },
    groups: count,
  }: StageGroupsOptions,
) {
  const first = Array.from({ length: count }, (_, i) => ({
    ...{ groupId: groupIdOf(revision, i), model, revision },
  }));
  return {
    groups: [...before.groups, ...first],
    capacity: { ...before.capacity, [revision]: { model, groups: count, basis: 0 } },
  };
}

/** "group", "group 2", "group 3" … */
const nameOf = (number: number): string => (number === 1 ? "group" : `group ${number}`);

function describe({
  number,
  child,
}: {
  number: number;
  child: RunningChild | undefined;
}): StagePart[] {
  if (child === undefined) return [];
  const { groupId, revision, ranks, probes } = groupSchema.parse(child.details);
  return [
    {
      ...{ name: nameOf(number), address: revision, pid: child.pid, groupId, ranks },
      ...(probes !== undefined && { metricsUrl: probes }),
    },
  ];
}

/** @throws StageError model_missing */
function groupEnvironment(
  { folder, ranks }: StageGroupsOptions,
  env: NodeJS.ProcessEnv,
  { groupId, revision: name }: { groupId: string; revision: string },
): NodeJS.ProcessEnv {
  const revision = readRevision(revisionsFolder(folder.path), name);
  return {
    AXON_MODEL_DIR: revision.path,
    AXON_TP: String(revision.ranks ?? ranks),
    AXON_REVISION: name,
    AXON_GROUP_ID: groupId,
    AXON_JOBS_QUEUE_URL: queueUrlOf(env["AXON_JOBS_QUEUE_URL"] ?? "", name),
    AXON_JOBS_DEAD_QUEUE_URL: queueUrlOf(env["AXON_JOBS_QUEUE_URL"] ?? "", `${name}-dead`),
    ...revision.env,
  };
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(new Error("is not wanted any more"));
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
