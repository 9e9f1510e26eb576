import { Worker } from "node:worker_threads";
import { z } from "zod";
import { externalPart, freePort, type RunningPart } from "./part.ts";

export interface EmulatorOptions {
  /** Folder of DynamoDB's tables; in memory without one. Queues are always in memory. */
  dynamoDbDir?: string;
  sqsPort?: number;
  dynamoDbPort?: number;
}

export interface AwsEmulators {
  sqs: RunningPart;
  dynamoDb: RunningPart;
  died: Promise<string>;
  stop(): Promise<void>;
}

/** What the thread is told, and what it answers once both listen. */
export interface EmulatorThreadData {
  sqsPort: number | undefined;
  dynamoDbPort: number | undefined;
  dynamoDbDir: string | undefined;
}
const readySchema = z.object({ type: z.literal("ready") });

/**
 * SQS and DynamoDB, emulated in one thread of this process on 127.0.0.1, away from the threads that
 * stream. One that AWS_ENDPOINT_URL_SQS or AWS_ENDPOINT_URL_DYNAMODB names is not started.
 *
 * The queues forget everything with the thread. Nothing is lost by it: the log holds every turn that
 * is open, and `sweep` sends their jobs again.
 */
export async function startAwsEmulators(options: EmulatorOptions): Promise<AwsEmulators> {
  const sqsUrl = process.env["AWS_ENDPOINT_URL_SQS"];
  const dynamoDbUrl = process.env["AWS_ENDPOINT_URL_DYNAMODB"];
  const sqsPort = sqsUrl === undefined ? (options.sqsPort ?? (await freePort())) : undefined;
  const dynamoDbPort =
    dynamoDbUrl === undefined ? (options.dynamoDbPort ?? (await freePort())) : undefined;
  const workerData: EmulatorThreadData = {
    ...{ sqsPort, dynamoDbPort },
    dynamoDbDir: options.dynamoDbDir,
  };
  const thread =
    sqsPort === undefined && dynamoDbPort === undefined ? undefined : await startThread(workerData);
  const partOf = (external: string | undefined, port: number | undefined): RunningPart =>
    thread === undefined || port === undefined
      ? externalPart(external ?? "")
      : { url: `http://127.0.0.1:${port}`, pid: process.pid, died: thread.died, stop: thread.stop };
  return {
    sqs: partOf(sqsUrl, sqsPort),
    dynamoDb: partOf(dynamoDbUrl, dynamoDbPort),
    died: thread?.died ?? new Promise(() => {}),
    stop: async () => thread?.stop(),
  };
}

async function startThread(workerData: EmulatorThreadData) {
  const thread = new Worker(new URL("./aws-emulators-thread.ts", import.meta.url), {
    workerData,
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  });
  let stopping = false;
  let failure: unknown;
  thread.on("error", (error) => {
    failure = error;
  });
  const gone = new Promise<string>((resolve) => {
    thread.once("exit", (code) =>
      resolve(failure === undefined ? `exited with ${code}` : String(failure)),
    );
  });
  await new Promise<void>((resolve, reject) => {
    thread.once("message", (message) => {
      readySchema.parse(message);
      resolve();
    });
    void gone.then((reason) => reject(new Error(`The AWS emulators do not start: ${reason}`)));
  });
  return {
    died: new Promise<string>((resolve) => {
      void gone.then((reason) => {
        if (!stopping) resolve(reason);
      });
    }),
    async stop() {
      stopping = true;
      thread.postMessage({ type: "stop" });
      const timer = setTimeout(() => void thread.terminate(), 5_000);
      await gone;
      clearTimeout(timer);
    },
  };
}
