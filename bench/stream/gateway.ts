import { Redis } from "ioredis";
import { startGateway } from "../../local/gateway.ts";
import { runPart } from "./part-process.ts";
import { benchFunctions } from "./watch-functions.ts";

/** The local gateway, with API Gateway's callbacks; it counts them. */
runPart<{ redisUrl: string; pageDir: string }, "calls">(async ({ redisUrl, pageDir }) => {
  const functions = benchFunctions(new Redis(redisUrl));
  const run = (route: string) => (event: Parameters<typeof functions.invoke>[1]) =>
    functions.invoke(route, event);
  const gateway = await startGateway({
    ...{ host: "127.0.0.1", port: 0, pageDir, pageConfig: {} },
    routes: { $connect: run("$connect"), resume: run("resume") },
    http: async () => ({ statusCode: 404 }),
  });
  return { ready: { url: gateway.url.replace("http", "ws"), httpUrl: gateway.url } };
});
