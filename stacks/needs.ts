import type { Deployment } from "../cluster/deployment.ts";
import type { Cache } from "./cache.ts";
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
  queues: Queues;
  cache: Cache;
  store: Store;
  socket: Socket;
}

/** What handlers may need. The names of variables are those of functions/lib/. */
export function needs(deployment: Deployment, { log, queues, cache, store, socket }: Parts) {
  const jobQueues = [...queues.jobs.values()].map(({ queue }) => queue);
  const apiKeys = new sst.Secret("ApiKeys");
  const onTable = (...actions: string[]): Permission => ({ actions, resources: [log.table.arn] });
  return {
    readLog: { link: [log.link], permissions: [onTable("dynamodb:Query")] },
    writeLog: { link: [log.link], permissions: [onTable("dynamodb:Query", "dynamodb:PutItem")] },
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
