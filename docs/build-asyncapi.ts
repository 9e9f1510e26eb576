import { writeFileSync } from "node:fs";
import { z } from "zod";
import {
  acceptedFrameSchema,
  cancelFrameSchema,
  chatFrameSchema,
  doneFrameSchema,
  errorFrameSchema,
  resumeFrameSchema,
  rewindFrameSchema,
  tokensFrameSchema,
} from "../events/frames.ts";
import { jobSchema, reportSchema } from "../events/jobs.ts";
import {
  noticedFrameSchema,
  observedFrameSchema,
  observeFrameSchema,
  operatedFrameSchema,
  operateFrameSchema,
} from "../events/observations.ts";

/*
 * Writes docs/asyncapi.json, the protocol for programs: node docs/build-asyncapi.ts [FILE]. What the words
 * mean is in PROTOCOL.md; the shapes are those that the code parses with.
 */

interface Message {
  schema: z.ZodType;
  summary: string;
}

/** By name. */
const sent: Record<string, Message> = {
  chat: { schema: chatFrameSchema, summary: "Asks. Sent again with its requestId it is one turn." },
  cancel: { schema: cancelFrameSchema, summary: "Ends a turn; what was said stays." },
  resume: {
    schema: resumeFrameSchema,
    summary: "Goes on after the last token that the client has.",
  },
  observe: { schema: observeFrameSchema, summary: "Asks to see something; for ops:read." },
  operate: { schema: operateFrameSchema, summary: "Asks for something to be done; for ops:write." },
};
const received: Record<string, Message> = {
  accepted: {
    schema: acceptedFrameSchema,
    summary: "The turn is in the log, and will be answered.",
  },
  tokens: { schema: tokensFrameSchema, summary: "Tokens from…to of an answer, joined." },
  rewind: { schema: rewindFrameSchema, summary: "The answer is cut back to token `to`." },
  done: { schema: doneFrameSchema, summary: "The last frame of a turn." },
  error: { schema: errorFrameSchema, summary: "What was asked was refused." },
  observed: { schema: observedFrameSchema, summary: "What is seen." },
  operated: { schema: operatedFrameSchema, summary: "What has come of an operation." },
  noticed: { schema: noticedFrameSchema, summary: "The log has grown; for whoever observes." },
};
const queued: Record<string, Message> = {
  job: { schema: jobSchema, summary: "A turn to run, for a leader of its revision." },
  report: { schema: reportSchema, summary: "What a leader says of a turn." },
};

const messages = { ...sent, ...received, ...queued };

const refs = (names: readonly string[], base: string) =>
  Object.fromEntries(names.map((name) => [name, { $ref: `${base}/${name}` }]));

const channel = (address: string, names: readonly string[], description: string) => ({
  ...{ address, description, messages: refs(names, "#/components/messages") },
});

const operation = (
  action: "send" | "receive",
  of: string,
  names: readonly string[],
  summary: string,
) => ({
  ...{ action, channel: { $ref: `#/channels/${of}` }, summary },
  messages: names.map((name) => ({ $ref: `#/channels/${of}/messages/${name}` })),
});

const parameter = { revision: { description: "The revision of the model." } };

/** From the side of the service: it receives what clients send. */
const document = {
  asyncapi: "3.0.0",
  info: {
    title: "Axon",
    version: "1.0.0",
    description: "The WebSocket of clients and the queues between control plane and data plane.",
    license: { name: "Apache-2.0" },
  },
  defaultContentType: "application/json",
  channels: {
    socket: {
      ...channel("/", Object.keys({ ...sent, ...received }), "The WebSocket, subprotocol axon.v1."),
      bindings: { ws: { method: "GET" } },
    },
    jobs: {
      ...channel("jobs-{revision}", ["job"], "SQS standard queue, at least once."),
      parameters: parameter,
    },
    reports: channel("reports.fifo", ["report"], "SQS FIFO queue, grouped by turn, at least once."),
  },
  operations: {
    receiveFrames: operation("receive", "socket", Object.keys(sent), "What a client sends."),
    sendFrames: operation("send", "socket", Object.keys(received), "What the service says."),
    sendJobs: operation("send", "jobs", ["job"], "By the control plane, to leaders."),
    receiveReports: operation(
      "receive",
      "reports",
      ["report"],
      "By the control plane, of leaders.",
    ),
  },
  components: {
    messages: Object.fromEntries(
      Object.entries(messages).map(([name, { schema, summary }]) => [
        name,
        { name, summary, payload: z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) },
      ]),
    ),
  },
};

const file = process.argv[2] ?? new URL("asyncapi.json", import.meta.url);
writeFileSync(file, `${JSON.stringify(document, undefined, 2)}\n`);
