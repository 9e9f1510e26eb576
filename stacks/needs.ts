import type { Deployment } from "../cluster/deployment.ts";
import type { Cache } from "./cache.ts";
import type { DataKeys } from "./data-keys.ts";
import type { Key } from "./key.ts";
import type { Log } from "./log.ts";
import type { Network } from "./network.ts";
import type { Queues } from "./queues.ts";
import type { Socket } from "./socket.ts";
import type { Store } from "./store.ts";

/** One thing that a handler can do: how it is told of it, and what it must be allowed for it. */
export interface Need {
  link?: $util.Input<unknown>[];
  permissions?: Permission[];
  environment?: Record<string, $util.Input<string>>;
}

export interface Permission {
  actions: string[];
  resources: $util.Input<string>[];
}

export interface Parts {
  key: Key;
  network: Network;
  log: Log;
  dataKeys: DataKeys;
  queues: Queues;
  cache: Cache;
  store: Store;
  socket: Socket;
}

/** What handlers may need. The names of variables are those of functions/lib/. */
export function needs(deployment: Deployment, parts: Parts) {
  const { log, queues, cache, store, socket } = parts;
  const jobQueues = [...queues.jobs.values()].map(({ queue }) => queue);
  const apiKeys = new sst.Secret("ApiKeys");
  const onTable = (...actions: string[]): Permission => ({ actions, resources: [log.table.arn] });
  return {
    readLog: { link: [log.link], permissions: [onTable("dynamodb:Query")] },
    writeLog: { link: [log.link], permissions: [onTable("dynamodb:Query", "dynamodb:PutItem")] },
    ...wordNeeds(parts),
    redis: { link: [cache.redis] },
    database: {
      link: [store],
      // Lambda's own list of authorities has that of RDS; Node's has not.
      environment: { NODE_EXTRA_CA_CERTS: "/var/runtime/ca-cert.pem" },
    },
    jobs: {
      permissions: [{ actions: ["sqs:SendMessage"], resources: jobQueues.map(({ arn }) => arn) }],
    },
    models: { environment: { AXON_MODELS: modelsVariable(deployment, queues) } },
    admission: {
      environment: {
        AXON_TENANT_IN_FLIGHT: String(deployment.limits.tenantInFlight),
        AXON_MAX_WAIT_MS: String(deployment.limits.maxWaitMs),
      },
    },
    rate: {
      environment: {
        AXON_RATE_PER_MINUTE: String(deployment.limits.ratePerMinute),
        AXON_RATE_BURST: String(deployment.limits.rateBurst),
      },
    },
    /** The link allows to post to connections and to close them. */
    frames: { link: [socket] },
    keys: { link: [apiKeys], environment: tokenVariables(deployment) },
    logStream: {
      permissions: [
        {
          actions: [
            ...["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            "dynamodb:ListStreams",
          ],
          resources: [log.streamArn],
        },
      ],
    },
    /** Lambda notes there, in the function's name, what it gives up of the stream. */
    unprocessed: {
      permissions: [{ actions: ["sqs:SendMessage"], resources: [queues.unprocessed.arn] }],
    },
    operations: seeStage(queues),
    deadLetters: moveBack(queues),
    reports: {
      permissions: [
        {
          actions: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
          resources: [queues.reports.queue.arn],
        },
      ],
    },
  } satisfies Record<string, Need>;
}

const arnsOf = ({ jobs, reports }: Queues, which: "queue" | "dead") =>
  [...jobs.values(), reports].map((pair) => pair[which].arn);

/** What operators ask about the whole deployment, its queues among it. */
function seeStage(queues: Queues): Need {
  const resources = [...arnsOf(queues, "queue"), ...arnsOf(queues, "dead")];
  return {
    environment: {
      AXON_STAGE_NAME: $app.stage,
      AXON_REPORTS_QUEUE_URL: queues.reports.queue.url,
    },
    permissions: [{ actions: ["sqs:GetQueueAttributes"], resources }],
  };
}

/** To look at dead letters, and to move them back to their queues. */
function moveBack(queues: Queues): Need {
  return {
    permissions: [
      { actions: ["sqs:SendMessage"], resources: arnsOf(queues, "queue") },
      {
        actions: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
        resources: arnsOf(queues, "dead"),
      },
    ],
  };
}

/** With the log alone one reads facts; the words in it need their keys. */
function wordNeeds({ log, dataKeys }: Parts) {
  const onKeys = (...actions: string[]): Permission => ({
    actions,
    resources: [dataKeys.table.arn],
  });
  // DynamoDB uses the key on behalf of whoever asks it, who therefore must be allowed to.
  const byKey: Permission = { actions: ["kms:Decrypt"], resources: [dataKeys.keyArn] };
  const link = [dataKeys.link];
  return {
    /** Reads words: keys that there are. */
    readWords: { link, permissions: [onKeys("dynamodb:Query"), byKey] },
    /** Writes words: makes the key of a new conversation, too. */
    writeWords: { link, permissions: [onKeys("dynamodb:Query", "dynamodb:PutItem"), byKey] },
    /** Destroys keys, finds those of a tenant, and blanks what was written before there were keys. */
    eraseWords: {
      link,
      permissions: [
        onKeys("dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        { actions: ["dynamodb:Query"], resources: [$interpolate`${dataKeys.table.arn}/index/*`] },
        { actions: ["dynamodb:UpdateItem"], resources: [log.table.arn] },
        byKey,
      ],
    },
  } satisfies Record<string, Need>;
}

/** Lambda takes 4 KB of variables in all; this leaves room for the others. */
const mostModelBytes = 3_000;

function modelsVariable({ models }: Deployment, { jobs }: Queues): $util.Output<string> {
  const entries = models.flatMap(({ revisions, default: isDefault, ...model }) =>
    revisions.map(({ revision, contextTokens }, i) => ({
      ...{ model: model.model, revision, contextTokens, sampling: model.sampling },
      ...(model.systemPrompt !== undefined && { systemPrompt: model.systemPrompt }),
      queueUrl: jobs.get(revision)?.queue.url,
      // New turns go to the first revision.
      default: isDefault && i === 0,
    })),
  );
  return $jsonStringify(entries).apply((text) => {
    const bytes = Buffer.byteLength(text);
    if (bytes <= mostModelBytes) return text;
    throw new Error(
      `axon.config.ts: what the functions have to know of the models takes ${bytes} bytes, and Lambda ` +
        `has room for ${mostModelBytes}: shorten system prompts, or retire revisions.`,
    );
  });
}

function tokenVariables({ tokens }: Deployment): Record<string, string> {
  if (tokens === undefined) return {};
  return {
    AXON_JWKS_URL: tokens.jwksUrl,
    AXON_JWT_ISSUER: tokens.issuer,
    AXON_JWT_AUDIENCE: tokens.audience,
  };
}
