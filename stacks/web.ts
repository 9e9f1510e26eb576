import type { Functions } from "./functions.ts";
import type { Key } from "./key.ts";
import type { Socket } from "./socket.ts";
import { nameOf } from "./stage.ts";

/**
 * The page and the history that it reads, under one name: CloudFront answers /api from the HTTP API and
 * the rest from a bucket that nobody else may read. No other site's pages are let in, so there is no CORS.
 *
 * The page learns its addresses from /config.json, a file that the build writes. There is no credential in
 * it: what anybody can load is no secret. The page asks for a key.
 */
export function web({ key, socket, handlers }: { key: Key; socket: Socket; handlers: Functions }) {
  const api = history(key, handlers);
  const headers = new aws.cloudfront.ResponseHeadersPolicy("PageHeaders", {
    name: nameOf("page"),
    securityHeadersConfig: {
      contentTypeOptions: { override: true },
      frameOptions: { frameOption: "DENY", override: true },
      referrerPolicy: { referrerPolicy: "no-referrer", override: true },
      strictTransportSecurity: { accessControlMaxAgeSec: 31_536_000, override: true },
    },
  });
  const router = new sst.aws.Router("Page", {
    transform: {
      cdn: (args) => {
        args.defaultCacheBehavior = $util
          .output(args.defaultCacheBehavior)
          .apply((behaviour) => ({ ...behaviour, responseHeadersPolicyId: headers.id }));
        return undefined;
      },
    },
  });
  router.route("/api", api.url);
  new sst.aws.StaticSite("Web", {
    router: { instance: router },
    build: { command: "npm run build:web:aws", output: "web/dist" },
    environment: { AXON_WEBSOCKET_URL: socket.url, AXON_API_URL: "/api" },
    assets: {
      fileOptions: [
        { files: "**", cacheControl: "max-age=31536000,public,immutable" },
        { files: ["**/*.html", "config.json"], cacheControl: "no-cache" },
      ],
    },
  });
  return router;
}

function history(key: Key, handlers: Functions) {
  const api = new sst.aws.ApiGatewayV2("Api", {
    cors: false,
    accessLog: { retention: "1 month" },
    transform: {
      api: { name: nameOf("api") },
      logGroup: { kmsKeyId: key.arn },
      stage: (args) => {
        args.defaultRouteSettings = { throttlingRateLimit: 200, throttlingBurstLimit: 200 };
        return undefined;
      },
    },
  });
  api.route("GET /api/{proxy+}", handlers.history.arn);
  api.route("DELETE /api/conversations/{id}", handlers.history.arn);
  return api;
}
