import { createDecipheriv } from "node:crypto";
import { readFileSync } from "node:fs";
import * as z from "zod";
import { ConfigurationError, type Environment } from "./provider.ts";

/**
 * What SST links to a function, as the variables that the functions are configured by. A variable that is
 * set stays as it is: on the local stage there are no links, and a deployment can overrule one.
 *
 * SST keeps links in two places: variables SST_RESOURCE_<name> with JSON, and a file that is encrypted by
 * AES-256-GCM. SST's own `Resource` reads them, too (a test compares the two), but quotes what is not JSON
 * in its error, which may be a secret, keeps what it has read once for the whole process, and would make a
 * tool of deployments a part of the functions and of the local stage.
 * Format: sst 4.17.1, sdk/js/src/resource/node.ts.
 */
const linksSchema = z.object({
  EventsTable: z.object({ name: z.string() }).optional(),
  DataKeysTable: z.object({ name: z.string() }).optional(),
  /** sst.aws.Redis: encrypted in transit, with a password, and in cluster mode unless it is told otherwise. */
  Redis: z
    .object({
      host: z.string(),
      port: z.coerce.number(),
      username: z.string(),
      password: z.string(),
    })
    .optional(),
  Store: z
    .object({
      host: z.string(),
      port: z.coerce.number(),
      username: z.string(),
      password: z.string(),
      database: z.string(),
    })
    .optional(),
  Socket: z.object({ managementEndpoint: z.string() }).optional(),
  ApiKeys: z.object({ value: z.string() }).optional(),
  /** What a rollout's functions know of EKS: cluster.ts has its shape. */
  Cluster: z.looseObject({ name: z.string() }).optional(),
});
type Links = z.infer<typeof linksSchema>;

/** @throws ConfigurationError when the links cannot be read. */
export function environmentWithLinks(env: Environment): Environment {
  const result = linksSchema.safeParse(linked(env));
  if (!result.success) {
    const problems = result.error.issues.map(
      ({ path, message }) => `The link ${path.map(String).join(".")}: ${message}`,
    );
    throw new ConfigurationError(problems);
  }
  const own = Object.entries(env).filter(([, value]) => value !== undefined);
  return { ...variablesOf(result.data), ...Object.fromEntries(own) };
}

function variablesOf(links: Links): Environment {
  const { EventsTable, DataKeysTable, Redis, Store, Socket, ApiKeys, Cluster } = links;
  return {
    AXON_EVENTS_TABLE: EventsTable?.name,
    AXON_DATA_KEYS_TABLE: DataKeysTable?.name,
    REDIS_URL: Redis && `rediss+cluster://${authority(Redis)}`,
    // The certificate must be that of the host, by an authority that Node knows. That of RDS is not among
    // its own: NODE_EXTRA_CA_CERTS=/var/runtime/ca-cert.pem adds it.
    DATABASE_URL:
      Store &&
      `postgres://${authority(Store)}/${encodeURIComponent(Store.database)}?sslmode=verify-full`,
    AXON_CONNECTIONS_ENDPOINT: Socket?.managementEndpoint,
    AXON_API_KEYS: ApiKeys?.value,
    AXON_CLUSTER: Cluster && JSON.stringify(clusterFacts(Cluster)),
  };
}

/** SST adds the kind of the resource to what is linked. */
function clusterFacts({ type: _, ...facts }: Record<string, unknown>): Record<string, unknown> {
  return facts;
}

function authority(server: {
  username: string;
  password: string;
  host: string;
  port: number;
}): string {
  const { username, password, host, port } = server;
  return `${encodeURIComponent(username)}:${encodeURIComponent(password)}@${host}:${port}`;
}

const recordSchema = z.record(z.string(), z.unknown());

function linked(env: Environment): Record<string, unknown> {
  const links: Record<string, unknown> = {};
  const prefix = "SST_RESOURCE_";
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(prefix) || !text) continue;
    links[name.slice(prefix.length)] = parsed(name, text);
  }
  const { SST_RESOURCES_JSON: all, SST_KEY: key, SST_KEY_FILE: file } = env;
  if (all) Object.assign(links, recordSchema.parse(parsed("SST_RESOURCES_JSON", all)));
  if (!key || !file) return links;
  return {
    ...links,
    ...recordSchema.parse(parsed(file, decrypted(key, file))),
  };
}

/** @throws ConfigurationError, which says nothing of the text: it may hold a password. */
function parsed(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ConfigurationError([`${name}: is not JSON`]);
  }
}

const tagBytes = 16;

/** Each deployment has a key of its own, and encrypts once with it: so SST's nonce is all zeros. */
function decrypted(key: string, file: string): string {
  try {
    const content = readFileSync(file);
    const decipher = createDecipheriv("aes-256-gcm", Buffer.from(key, "base64"), Buffer.alloc(12), {
      authTagLength: tagBytes,
    });
    decipher.setAuthTag(content.subarray(-tagBytes));
    const text = decipher.update(content.subarray(0, -tagBytes));
    return Buffer.concat([text, decipher.final()]).toString("utf8");
  } catch (cause) {
    throw new ConfigurationError([`SST_KEY_FILE: ${file} cannot be read with SST_KEY`], cause);
  }
}
