import { SQSClient } from "@aws-sdk/client-sqs";
import { z } from "zod";
import {
  type DeadLetter,
  listDeadLetters,
  type QueuePair,
  redriveDeadLetters,
} from "./dead-letters.ts";
import { CommandError, localStageFile } from "./stage.ts";

export const jobsHelp = `axon jobs: the messages that could not be worked off.

  axon jobs dlq              lists the dead letters of the jobs and of the reports, and leaves them there
  axon jobs dlq --redrive    moves them back to the queue that they come from

Options
  --queue jobs|reports   only those of one queue
  --json                 one JSON object a line

The queues are those of the stage that \`npm start\` runs here (AXON_DATA names another data folder), or
those that the environment names, in pairs, with what the AWS SDK reads beside them (AWS_REGION, …):

  AXON_JOBS_QUEUE_URL, AXON_JOBS_DEAD_QUEUE_URL
  AXON_REPORTS_QUEUE_URL, AXON_REPORTS_DEAD_QUEUE_URL

A job that is no job comes back at once, with the same reason. Everything else may be done twice without
harm: a turn that has ended is not run again, and a report of it changes nothing.

Exit codes: 0 done, also when there are none; 1 failed; 2 the command cannot be understood.
`;

export interface JobsCommand {
  words: readonly string[];
  queue: string | undefined;
  redrive: boolean;
  json: boolean;
}

const queueNameSchema = z.enum(["jobs", "reports"]);
type QueueName = z.infer<typeof queueNameSchema>;

/** Returns the exit code. Throws CommandError. */
export async function jobs({ words, queue, redrive, json }: JobsCommand): Promise<number> {
  if (words.length !== 1 || words[0] !== "dlq") {
    throw new CommandError("Use axon jobs dlq. Try axon jobs --help.", { exitCode: 2 });
  }
  const only = queueNameSchema.optional().safeParse(queue);
  if (!only.success) {
    throw new CommandError(`--queue takes jobs or reports, not "${queue}".`, { exitCode: 2 });
  }
  const { sqs, queues } = findQueues(only.data);
  try {
    for (const [name, pair] of queues) {
      if (redrive) await redriveCommand(sqs, name, pair, json);
      else await listCommand(sqs, name, pair, json);
    }
    return 0;
  } catch (cause) {
    const why = cause instanceof Error && cause.message !== "" ? cause.message : String(cause);
    throw new CommandError(`The queue does not answer: ${why}`, { cause });
  } finally {
    sqs.destroy();
  }
}

async function listCommand(sqs: SQSClient, name: QueueName, pair: QueuePair, json: boolean) {
  const letters = await listDeadLetters(sqs, pair);
  if (!json) process.stdout.write(`${name}: ${countText(letters.length)}\n`);
  for (const letter of letters) print(name, letter, json);
}

async function redriveCommand(sqs: SQSClient, name: QueueName, pair: QueuePair, json: boolean) {
  let count = 0;
  await redriveDeadLetters(sqs, pair, (letter) => {
    count++;
    print(name, letter, json);
  });
  // Said with --json too, where it is out of the way of who reads the objects.
  const stream = json ? process.stderr : process.stdout;
  stream.write(`${name}: ${countText(count)} moved back\n`);
}

const countText = (count: number): string =>
  count === 1 ? "1 dead letter" : `${count} dead letters`;

function print(queue: QueueName, letter: DeadLetter, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ queue, ...letter })}\n`);
    return;
  }
  const { messageId, turnId, tenantId, reason, receives, ageMs } = letter;
  const facts = [
    messageId,
    turnId ?? "no turn",
    ...(tenantId === undefined ? [] : [`tenant ${tenantId}`]),
    `received ${receives} times`,
    `${Math.round(ageMs / 1_000)} s old`,
    reason ?? "received too often",
  ];
  process.stdout.write(`  ${facts.join("  ")}\n`);
}

const pairSchema = z.object({ url: z.string(), deadLetterUrl: z.string() });
const stageSchema = z.looseObject({
  queues: z.object({
    endpoint: z.string().optional(),
    emulated: z.boolean(),
    jobs: pairSchema,
    reports: pairSchema,
  }),
});

/** The queues that the environment names, else those of the local stage. */
function findQueues(only: QueueName | undefined): {
  sqs: SQSClient;
  queues: [QueueName, QueuePair][];
} {
  const names = only === undefined ? queueNameSchema.options : [only];
  const named = names.flatMap((name): [QueueName, QueuePair][] => {
    const pair = pairInEnvironment(name);
    return pair === undefined ? [] : [[name, pair]];
  });
  if (named.length > 0) return { sqs: new SQSClient(), queues: named };
  const stage = stageSchema.safeParse(localStageFile());
  if (!stage.success) {
    throw new CommandError(
      "No stage runs here. Start one with `npm start`, or name the queues by the environment: axon jobs --help.",
    );
  }
  const { endpoint, emulated, ...pairs } = stage.data.queues;
  const sqs = new SQSClient({
    ...(endpoint !== undefined && { endpoint }),
    // The emulator takes any; yours are not shown to it.
    ...(emulated && {
      region: "us-east-1",
      credentials: { accessKeyId: "local", secretAccessKey: "local" },
    }),
  });
  return { sqs, queues: names.map((name) => [name, pairs[name]]) };
}

function pairInEnvironment(name: QueueName): QueuePair | undefined {
  const names = [
    `AXON_${name.toUpperCase()}_QUEUE_URL`,
    `AXON_${name.toUpperCase()}_DEAD_QUEUE_URL`,
  ];
  const [url, deadLetterUrl] = names.map((variable) => process.env[variable]);
  if (url === undefined && deadLetterUrl === undefined) return undefined;
  if (url === undefined || deadLetterUrl === undefined) {
    throw new CommandError(`${names.join(" and ")} go together: one of them is missing.`, {
      exitCode: 2,
    });
  }
  return { url, deadLetterUrl };
}
