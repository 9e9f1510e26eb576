import { inspect } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import {
  type RedisClient,
  redisClient,
  redisSubscriber,
  redisUrlSchema,
} from "../../events/redis-client.ts";
import { parts } from "../support/parts.ts";

const password = "the-secret-password";

const clients: RedisClient[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

function clientOf(url: string): RedisClient {
  const client = redisClient(url, { maxRetriesPerRequest: 1 });
  clients.push(client);
  return client;
}

/** A server's address with a login that it refuses. */
function refusedUrl(scheme: string): string {
  const { host } = new URL(parts().redisUrl);
  return `${scheme}://nobody:${password}@${host}`;
}

describe("a Redis client", () => {
  test.each([
    ["redis://host", true],
    ["rediss://user:pass@host:6380/3", true],
    ["redis+cluster://host:7000", true],
    ["rediss+cluster://user:p%40ss@host", true],
    ["http://host", false],
    ["cluster://host", false],
    ["host:6379", false],
  ])("is named by %s: %s", (url, isOne) => {
    expect(redisUrlSchema.safeParse(url).success).toBe(isOne);
  });

  test.each(["redis", "redis+cluster"])(
    "of %s:// whose login is refused does not tell it",
    async (scheme) => {
      const client = clientOf(refusedUrl(scheme));
      const heard = new Promise<Error>((resolve) => client.on("error", resolve));
      await expect(client.get("key")).rejects.toThrow();
      expect(inspect(await heard, { depth: 10 })).not.toContain(password);
    },
  );

  test("to subscribe with does not tell it either", async () => {
    const subscriber = redisSubscriber(clientOf(refusedUrl("redis+cluster")));
    const error = await new Promise<Error>((resolve) => subscriber.on("error", resolve));
    subscriber.disconnect();
    expect(error.message).toContain("WRONGPASS");
    expect(inspect(error, { depth: 10 })).not.toContain(password);
  });
});
