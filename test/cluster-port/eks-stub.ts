import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The part of EKS's API that a rollout needs: node groups that are described and scaled. */

export interface NodeGroupState {
  desiredSize: number;
  maxSize: number;
  issues: { code: string; message: string }[];
}

export type EksFault = { status: number; name: string; message: string } | "hangs";

export class EksStub {
  readonly nodeGroups = new Map<string, NodeGroupState>();
  /** Hears of a node group that was scaled. */
  scaled: (name: string, size: number) => void = () => {};
  fault: (method: string, path: string) => EksFault | undefined = () => undefined;
  /** Where the cluster's own API is; undefined while it is created. */
  kubernetesUrl: string | undefined;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://stub");
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const fault = this.fault(request.method ?? "GET", pathname);
    if (fault === "hangs") return;
    const refuse = (status: number, name: string, message: string) => {
      response.writeHead(status, { "x-amzn-errortype": name, "content-type": "application/json" });
      response.end(JSON.stringify({ message }));
    };
    if (fault !== undefined) return refuse(fault.status, fault.name, fault.message);
    const answer = (body: object) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (pathname === "/clusters/axon-test") {
      const status = this.kubernetesUrl === undefined ? "CREATING" : "ACTIVE";
      return answer({ cluster: { name: "axon-test", status, endpoint: this.kubernetesUrl } });
    }
    const [, cluster, name, action] =
      /^\/clusters\/([^/]+)\/node-groups(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(pathname) ?? [];
    if (cluster !== "axon-test")
      return refuse(404, "ResourceNotFoundException", "No cluster found.");
    if (name === undefined) {
      const names = [...this.nodeGroups.keys()];
      const from = Number(searchParams.get("nextToken") ?? 0);
      const nextToken = from + 3 < names.length ? String(from + 3) : undefined;
      return answer({ nodegroups: names.slice(from, from + 3), nextToken });
    }
    const found = this.nodeGroups.get(name);
    if (found === undefined)
      return refuse(404, "ResourceNotFoundException", `No node group ${name}.`);
    if (action === "update-config") {
      const { scalingConfig } = JSON.parse(text) as { scalingConfig: { desiredSize: number } };
      const { desiredSize } = scalingConfig;
      if (desiredSize > found.maxSize) {
        return refuse(400, "InvalidParameterException", "desired capacity is above max size");
      }
      found.desiredSize = desiredSize;
      this.scaled(name, desiredSize);
      return answer({ update: { id: "u", status: "InProgress", type: "ConfigUpdate" } });
    }
    const { maxSize, issues } = found;
    return answer({
      nodegroup: {
        ...{ nodegroupName: name, clusterName: cluster, status: "ACTIVE" },
        scalingConfig: { minSize: 0, maxSize, desiredSize: found.desiredSize },
        health: { issues },
      },
    });
  }
}
