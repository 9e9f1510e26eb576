import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";

/** OTLP's JSON, as far as tests look at it. */
const valueSchema = z.looseObject({
  stringValue: z.string().optional(),
  intValue: z.string().optional(),
  doubleValue: z.number().optional(),
  boolValue: z.boolean().optional(),
  arrayValue: z.object({ values: z.array(z.unknown()) }).optional(),
});
const attributesSchema = z
  .array(z.object({ key: z.string(), value: valueSchema }))
  .transform((pairs) => Object.fromEntries(pairs.map(({ key, value }) => [key, plain(value)])));

function plain(value: z.infer<typeof valueSchema>): unknown {
  const { stringValue, intValue, doubleValue, boolValue, arrayValue } = value;
  if (arrayValue !== undefined)
    return arrayValue.values.map((one) => plain(valueSchema.parse(one)));
  return stringValue ?? doubleValue ?? boolValue ?? Number(intValue);
}

const spanSchema = z.looseObject({
  traceId: z.string().regex(/^[0-9a-f]{32}$/),
  spanId: z.string().regex(/^[0-9a-f]{16}$/),
  parentSpanId: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .optional(),
  name: z.string(),
  kind: z.int().min(1).max(5),
  startTimeUnixNano: z.string().regex(/^\d+$/),
  endTimeUnixNano: z.string().regex(/^\d+$/),
  attributes: attributesSchema,
  events: z.array(z.looseObject({ name: z.string(), attributes: attributesSchema })),
  links: z.array(z.looseObject({ traceId: z.string(), spanId: z.string() })),
  status: z.looseObject({ code: z.int().min(0).max(2) }),
});
const tracesSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
});

export type CollectedSpan = z.infer<typeof spanSchema> & { service: unknown };

/** The spans of one request, or of one line of a file. */
export function spansIn(text: string): CollectedSpan[] {
  return tracesSchema
    .parse(JSON.parse(text))
    .resourceSpans.flatMap(({ resource, scopeSpans }) =>
      scopeSpans.flatMap(({ spans }) =>
        spans.map((span) => ({ ...span, service: resource.attributes["service.name"] })),
      ),
    );
}

/** What span kinds are in OTLP. */
export const kinds = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 } as const;

/** A collector of traces that keeps what it is sent; `answer` decides the status of each request. */
export async function traceCollector(answer: () => number | Promise<number> = () => 200) {
  const bodies: string[] = [];
  const requests: { url: string | undefined; headers: NodeJS.Dict<string | string[]> }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", async () => {
      requests.push({ url: request.url, headers: request.headers });
      const status = await answer();
      if (status < 300) bodies.push(Buffer.concat(chunks).toString("utf8"));
      response.writeHead(status, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    /** All that was sent, as it was sent. */
    text: () => bodies.join("\n"),
    spans: () => bodies.flatMap(spansIn),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
