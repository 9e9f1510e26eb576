import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { GroupError } from "./group-error.ts";

/**
 * Which network NCCL uses between nodes, from what it writes with NCCL_DEBUG=INFO and NCCL_DEBUG_FILE.
 *
 * Where its plugin for EFA (aws-ofi-nccl) is missing or finds no device, NCCL falls back to TCP sockets
 * without an error, and the group answers many times slower (vllm-project/vllm#6370). Forcing the plugin
 * by NCCL_NET is no way out: the plugin's name has changed ("AWS Libfabric", "Libfabric").
 * The lines, of NCCL 2.18 to 2.31 with aws-ofi-nccl 1.7 to 1.17:
 *
 *     NCCL INFO NET/OFI Selected provider is efa, fabric is efa-direct (found 4 nics)
 *     NCCL INFO NET/OFI Selected Provider is efa (found 4 nics)
 *     NCCL INFO Using network AWS Libfabric
 *     NCCL INFO Channel 00/0 : 8[0] -> 0[0] [receive] via NET/Libfabric/0/GDRDMA
 *     NCCL INFO Using network Socket
 *     NCCL INFO Channel 00 : 8[0] -> 0[0] [receive] via NET/Socket/0
 *
 * "Bootstrap : Using eth0" is no sign: ranks always find each other over TCP.
 */
export type Transport = "efa" | "other" | "unknown";

/** What a process of NCCL has said: the network, and the line that says it. */
export interface TransportFinding {
  transport: Transport;
  line: string;
}

const providerPattern = /NET\/OFI Selected provider is ([\w;-]+)/i;
const networkPattern = /NCCL INFO Using network (.+?)\s*$/;
const channelPattern = / via NET\/([^/]+)\//;

/** Reads one process's log. Any line for another network than EFA counts more than all for it. */
export function transportIn(log: string): TransportFinding {
  let found: TransportFinding = { transport: "unknown", line: "" };
  for (const text of log.split("\n")) {
    const line = text.trim();
    const transport = transportOf(line);
    if (transport === "other") return { transport, line };
    if (transport === "efa") found = { transport, line };
  }
  return found;
}

function transportOf(line: string): Transport {
  const provider = providerPattern.exec(line)?.[1];
  if (provider !== undefined) return /^efa\b/.test(provider) ? "efa" : "other";
  const network = networkPattern.exec(line)?.[1] ?? channelPattern.exec(line)?.[1];
  // The plugin's name alone does not say which provider it uses, and it always names that before.
  if (network === undefined || /Libfabric|OFI/.test(network)) return "unknown";
  return "other";
}

/** Looks into the logs of all processes of this node. */
export class NcclGate {
  readonly #folder: string;

  /** @param folder where NCCL_DEBUG_FILE points to, one file a process */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws GroupError slow_network as soon as any process has said so */
  async check(): Promise<Transport> {
    const files = await readdir(this.#folder).catch(() => []);
    let transport: Transport = "unknown";
    for (const file of files) {
      const found = transportIn(await readFile(join(this.#folder, file), "utf8"));
      if (found.transport === "other") {
        throw new GroupError("slow_network", `NCCL does not use EFA. ${file} says: ${found.line}`);
      }
      if (found.transport === "efa") transport = "efa";
    }
    return transport;
  }

  /** For when the engine answers: by then NCCL has spoken. @throws GroupError slow_network */
  async pass(): Promise<void> {
    if ((await this.check()) === "efa") return;
    throw new GroupError(
      "slow_network",
      `No file of ${this.#folder} says which network NCCL uses: NCCL_DEBUG=INFO and NCCL_DEBUG_FILE are needed, and an image with aws-ofi-nccl.`,
    );
  }
}
