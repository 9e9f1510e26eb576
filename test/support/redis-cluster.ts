import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort } from "../../local/part.ts";
import { findRedis } from "../../local/redis.ts";
import { type ServerProcess, startServer } from "../../local/server-process.ts";
import { eventually } from "./eventually.ts";

export interface RedisCluster {
  url: string;
  /** Of the authority that has signed the servers' certificate, PEM; "" without TLS. */
  certificate: string;
  /** Kills a server that holds a third of all keys, and starts it again, empty, after a while. */
  restartOne(downMs: number): Promise<void>;
  stop(): Promise<void>;
}

const slots = 16_384;
const size = 3;

/** A real Redis Cluster of three servers; with a password all of it is encrypted, as in ElastiCache. */
export async function startRedisCluster(password?: string): Promise<RedisCluster> {
  const folder = mkdtempSync(join(tmpdir(), "axon-cluster-"));
  const tls = password === undefined ? undefined : makeCertificate(folder);
  const login: Login =
    password === undefined ? {} : { password, tls: { ca: tls?.certificate ?? "" } };
  const nodes: Node[] = [];
  const servers: ServerProcess[] = [];
  async function stop(): Promise<void> {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
  try {
    for (let i = 0; i < size; i++) {
      const node = { port: await freePort(), busPort: await freePort(), i };
      nodes.push(node);
      servers.push(await startNode(node, folder, password, tls));
    }
    await joinAll(nodes, login);
  } catch (error) {
    await stop();
    throw error;
  }
  const scheme = tls === undefined ? "redis" : "rediss";
  const user = password === undefined ? "" : `default:${encodeURIComponent(password)}@`;
  return {
    url: `${scheme}+cluster://${user}localhost:${nodes[0]?.port}`,
    certificate: tls?.certificate ?? "",
    async restartOne(downMs) {
      const node = nodes.at(-1);
      if (node === undefined) throw new Error("There is no server.");
      await servers.pop()?.stop();
      await new Promise((resolve) => setTimeout(resolve, downMs));
      servers.push(await startNode(node, folder, password, tls));
    },
    stop,
  };
}

type Login = { password?: string; tls?: { ca: string } };

interface Node {
  i: number;
  port: number;
  busPort: number;
}

interface Tls {
  certificate: string;
  certificateFile: string;
  keyFile: string;
}

function startNode(
  { i, port, busPort }: Node,
  folder: string,
  password: string | undefined,
  tls: Tls | undefined,
): Promise<ServerProcess> {
  const { file, env } = findRedis();
  const dir = join(folder, String(i));
  mkdirSync(dir, { recursive: true });
  const encrypted = tls !== undefined && [
    ...["--port", "0", "--tls-port", String(port), "--tls-cluster", "yes"],
    ...["--tls-auth-clients", "no", "--tls-ca-cert-file", tls.certificateFile],
    ...["--tls-cert-file", tls.certificateFile, "--tls-key-file", tls.keyFile],
    ...["--requirepass", password ?? "", "--masterauth", password ?? ""],
  ];
  return startServer({
    name: "Redis",
    ...{ file, env, logFile: join(folder, `${i}.log`), stopSignal: "SIGKILL" },
    args: [
      ...["--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"],
      ...["--cluster-enabled", "yes", "--cluster-port", String(busPort)],
      // Clients are told names, as by ElastiCache, where certificates are for names.
      ...["--cluster-announce-hostname", "localhost"],
      ...["--cluster-preferred-endpoint-type", "hostname"],
      ...(encrypted || ["--port", String(port)]),
    ],
    isReady: async () => readFileSync(join(folder, `${i}.log`), "utf8").includes("Ready to accept"),
    readyWithinMs: 20_000,
  });
}

/** Gives each server its share of the slots, and makes them known to each other. */
async function joinAll(nodes: readonly Node[], login: Login): Promise<void> {
  const clients = nodes.map(({ port }) => new Redis({ ...login, host: "localhost", port }));
  const [first] = nodes;
  if (first === undefined) return;
  await Promise.all(
    clients.map(async (client, i) => {
      const [from, to] = [i, i + 1].map((n) => Math.floor((n * slots) / size));
      await client.call("CLUSTER", "ADDSLOTSRANGE", String(from), String((to ?? 0) - 1));
      if (i > 0) {
        const { port, busPort } = first;
        await client.call("CLUSTER", "MEET", "127.0.0.1", String(port), String(busPort));
      }
    }),
  );
  await eventually(async () => {
    const states = await Promise.all(clients.map((client) => client.cluster("INFO")));
    const links = await Promise.all(clients.map((client) => client.call("CLUSTER", "NODES")));
    return (
      states.every((text) => text.includes("cluster_state:ok")) &&
      // Until all of them are connected what one publishes is not heard at the others.
      links.every((text) => String(text).split(" connected ").length === size + 1)
    );
  }, 20_000);
  for (const client of clients) client.disconnect();
}

/** A certificate for localhost that has signed itself. */
function makeCertificate(folder: string): Tls {
  const certificateFile = join(folder, "certificate.pem");
  const keyFile = join(folder, "key.pem");
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-keyout", keyFile, "-out", certificateFile, "-days", "2", "-subj", "/CN=localhost"],
      ...["-addext", "subjectAltName=DNS:localhost"],
    ],
    { stdio: "pipe" },
  );
  return { certificate: readFileSync(certificateFile, "utf8"), certificateFile, keyFile };
}
