import type { Deployment } from "../cluster/deployment.ts";
import type { Functions } from "./functions.ts";
import type { Key } from "./key.ts";
import { nameOf } from "./stage.ts";

export type Socket = ReturnType<typeof socket>;

/** Of an account and region, for all its APIs and the callback API together. */
const requestsPerSecond = 10_000;
const burst = 5_000;

/**
 * The WebSocket. There is no authorizer before `$connect`: the function behind it checks the credential
 * and binds the connection in one step, and its answer becomes the status of the handshake. An authorizer
 * would be a second function with the same secrets, a second cold start in each handshake, and its cached
 * decisions would outlive a key that was taken back (docs/DEPLOY.md, "Who may connect").
 */
export function socket({ limits }: Deployment, key: Key) {
  // What callbacks leave of the quota. Nobody's frames may take from the answers that run.
  const rate = Math.max(100, requestsPerSecond - limits.callbacksPerSecond);
  return new sst.aws.ApiGatewayWebSocket("Socket", {
    accessLog: { retention: "1 month" },
    transform: {
      api: { name: nameOf("socket") },
      accessLog: { kmsKeyId: key.arn },
      stage: (args) => {
        args.defaultRouteSettings = {
          throttlingRateLimit: rate,
          throttlingBurstLimit: Math.min(rate, burst),
          detailedMetricsEnabled: true,
        };
        return undefined;
      },
    },
  });
}

export function routes(door: Socket, handlers: Functions): void {
  door.route("$connect", handlers.connect.arn);
  door.route("$disconnect", handlers.disconnect.arn);
  door.route("$default", handlers.unrouted.arn);
  // Frames name their route in the field `action` (docs/PROTOCOL.md).
  door.route("chat", handlers.chat.arn);
  door.route("resume", handlers.resume.arn);
  door.route("cancel", handlers.cancel.arn);
  door.route("observe", handlers.observe.arn);
  door.route("operate", handlers.operate.arn);
}
