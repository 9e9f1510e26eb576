import { tmpdir } from "node:os";
import OpenAI from "openai";
import { tokenStream } from "../../dataplane/token-stream.ts";
import type { Job } from "../../events/jobs.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import type { StreamEnd } from "../../events/redis-keys.ts";
import { completions } from "../../functions/completions.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { type Gateway, startGateway } from "../../local/gateway.ts";
import { eventually } from "../support/eventually.ts";
import { type Stage, startStage, timings } from "./stage.ts";

/** OpenAI's API behind a gateway, on real stores, asked by OpenAI's own client; a test is the leader. */
export interface ApiStage extends Stage {
  url: string;
  client(options?: { key?: string }): OpenAI;
  /** Another gateway on the same stores, with other dependencies. */
  beside(deps: Partial<Deps>): Promise<OpenAI>;
  /** The next job that is sent. */
  nextJob(): Promise<Job>;
  lead(job: Job, leaderId?: string): Promise<TestLeader>;
}

export interface TestLeader {
  epoch: number;
  /** Adds tokens; the first has the number `from`. */
  say(from: number, ...texts: string[]): Promise<void>;
  end(lastSeq: number, end?: Partial<StreamEnd>): Promise<void>;
}

export async function startApiStage(): Promise<ApiStage> {
  const stage = await startStage();
  const gateways: Gateway[] = [];
  const open = async (deps: Deps) => {
    const gateway = await startGateway({
      ...{ host: "127.0.0.1", port: 0, pageDir: tmpdir(), pageConfig: {} },
      ...{ routes: {}, http: async () => ({ statusCode: 404 }), api: completions(deps) },
    });
    gateways.push(gateway);
    return gateway;
  };
  const clientOf = ({ url }: Gateway, key = "key-of-acme") =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
  const gateway = await open(stage.deps);
  const waiting: Job[] = [];
  return {
    ...stage,
    url: gateway.url,
    client: ({ key } = {}) => clientOf(gateway, key),
    beside: async (deps) => clientOf(await open({ ...stage.deps, ...deps })),
    nextJob: () =>
      eventually(async () => {
        waiting.push(...(await stage.takeJobs()));
        return waiting.shift();
      }),
    lead: (job, leaderId = "leader") => leadTurn(stage.deps.redis, job, leaderId),
    async close() {
      await Promise.all(gateways.map((one) => one.stop()));
      await stage.close();
    },
  };
}

/** Claims a turn, for a test to say its answer. */
export async function leadTurn(
  redis: RedisClient,
  job: Job,
  leaderId: string,
): Promise<TestLeader> {
  const stream = tokenStream(redis);
  const claim = await stream.claim(job, { leaderId, groupId: "group", leaseMs: 60_000 });
  if (claim.status !== "claimed") throw new Error(`The turn is ${claim.status}.`);
  const { turnId } = job;
  const { epoch } = claim;
  return {
    epoch,
    async say(from, ...texts) {
      const tokens = texts.map((text, i) => ({ text, token: from + i }));
      const [result] = await stream.appendAll([{ turnId, epoch, from, tokens }]);
      if (result !== "ok") throw new Error(`The append is ${result}.`);
    },
    async end(lastSeq, end = {}) {
      const usage = { promptTokens: 5, completionTokens: lastSeq };
      const whole = { lastSeq, epoch: lastSeq === 0 ? 0 : epoch, finishReason: "stop" } as const;
      const result = await stream.seal(job, epoch, { ...whole, usage, timings, ...end });
      if (result !== "ok") throw new Error(`The seal is ${result}.`);
    },
  };
}
