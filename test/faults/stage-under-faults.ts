import { rm } from "node:fs/promises";
import { join } from "node:path";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { WebSocket as NodeWebSocket } from "ws";
import { type Client, connect } from "../../client/client.ts";
import { type AwsEmulators, startAwsEmulators } from "../../local/aws-emulators.ts";
import {
  dataFolder,
  interrupt,
  isRunning,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "../stage/spawned-stage.ts";
import { type StoreProxy, startStoreProxy } from "./store-proxy.ts";

export interface StageOptions {
  ranks: number;
  msPerToken: number;
  clients: number;
}

/** Whoever sends something to the emulators has to say that it is somebody. */
const credentials = { accessKeyId: "local", secretAccessKey: "local" };

/** A client whose sockets can be cut as a network cuts them: without a word. */
export interface CuttableClient {
  client: Client;
  cut(): void;
}

/** The whole of Axon in processes of its own, with proxies before SQS and DynamoDB. */
export class StageUnderFaults {
  readonly stage: SpawnedStage;
  readonly sqsProxy: StoreProxy;
  readonly dynamoDbProxy: StoreProxy;
  /** Past the proxy: for looking at the queues, whatever the stage sees of them. */
  readonly sqs: SQSClient;
  /** Reconnects for as long as Redis is away, and waits. */
  readonly redis: Redis;
  /** One half at the gateway, the other half at the relay's own door. */
  readonly clients: CuttableClient[];
  readonly #emulators: AwsEmulators;

  private constructor(
    stage: SpawnedStage,
    { emulators, sqsProxy, dynamoDbProxy }: AwsUnderFaults,
    redisUrl: string,
    clients: CuttableClient[],
  ) {
    this.stage = stage;
    this.#emulators = emulators;
    this.sqsProxy = sqsProxy;
    this.dynamoDbProxy = dynamoDbProxy;
    this.sqs = new SQSClient({ endpoint: emulators.sqs.url, region: "us-east-1", credentials });
    this.redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
    this.redis.on("error", () => {}); // It is meant to be away at times.
    this.clients = clients;
  }

  static async start(options: StageOptions): Promise<StageUnderFaults> {
    const aws = await startAws();
    const dataDir = await dataFolder();
    const stage = await spawnStage(dataDir, {
      args: [
        ...["--groups", "2", "--relays", "2", "--front-door"],
        ...["--tp", String(options.ranks)],
      ],
      env: {
        AXON_MS_PER_TOKEN: String(options.msPerToken),
        AXON_RATE_BURST: "10000",
        AXON_RATE_PER_MINUTE: "10000",
        // Threads cannot be killed alone.
        ...(options.ranks > 1 && { AXON_TRANSPORT: "tcp" }),
        AWS_ENDPOINT_URL_SQS: aws.sqsProxy.url,
        AWS_ENDPOINT_URL_DYNAMODB: aws.dynamoDbProxy.url,
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      },
    });
    const { parts, url, credential } = await stage.file();
    const config = (await (await fetch(`${url}/config.json`)).json()) as { webSocketUrl: string };
    const doors = [url, config.webSocketUrl].map((address) => address.replace("http", "ws"));
    const clients = Array.from({ length: options.clients }, (_, i) =>
      cuttableClient(doors[i % 2] ?? "", credential),
    );
    const redisUrl = parts.find(({ name }) => name === "redis")?.address ?? "";
    return new StageUnderFaults(stage, aws, redisUrl, clients);
  }

  async pidOf(name: string): Promise<number> {
    const pid = (await this.stage.file()).parts.find((part) => part.name === name)?.pid;
    if (pid === undefined) throw new Error(`The stage has no ${name}.`);
    return pid;
  }

  /** Where the stage keeps something. */
  folder(name: string): string {
    return join(this.stage.dataDir, name);
  }

  /** @returns problems: processes that outlive the stage. */
  async stop({ keepData }: { keepData: boolean }): Promise<string[]> {
    for (const { client } of this.clients) client.close();
    this.redis.disconnect();
    const pids = await this.stage.pids();
    const code = await interrupt(this.stage);
    this.sqs.destroy();
    this.sqsProxy.close();
    this.dynamoDbProxy.close();
    await this.#emulators.stop();
    if (!keepData) await removeFolder(this.stage.dataDir);
    const left = pids.filter(isRunning);
    return [
      ...(code === 0 ? [] : [`the stage ended with ${code}`]),
      ...(left.length === 0 ? [] : [`processes outlive the stage: ${left.join(", ")}`]),
    ];
  }

  /** Removes what Redis keeps on its disk. */
  async forgetRedis(): Promise<void> {
    await rm(join(this.folder("redis"), "appendonlydir"), { recursive: true, force: true });
  }
}

type AwsUnderFaults = Awaited<ReturnType<typeof startAws>>;

async function startAws() {
  const emulators = await startAwsEmulators({});
  const [sqsProxy, dynamoDbProxy] = await Promise.all([
    startStoreProxy(emulators.sqs.url),
    startStoreProxy(emulators.dynamoDb.url),
  ]);
  return { emulators, sqsProxy, dynamoDbProxy };
}

function cuttableClient(url: string, credential: string): CuttableClient {
  let latest: NodeWebSocket | undefined;
  class CuttableSocket extends NodeWebSocket {
    constructor(address: string | URL, protocols?: string | string[]) {
      super(address, protocols);
      latest = this;
      this.on("error", () => {}); // The close that follows is what the client acts on.
    }
  }
  const webSocket = CuttableSocket as unknown as typeof WebSocket;
  return { client: connect({ url, credential, webSocket }), cut: () => latest?.terminate() };
}
