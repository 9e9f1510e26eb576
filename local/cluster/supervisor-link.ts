import { z } from "zod";
import { ClusterError, clusterErrors } from "../../events/cluster-port.ts";
import type { GroupSupervisor, SupervisorView } from "./group-supervisor.ts";

/**
 * The control plane asks its parent, the supervisor, about groups: one message over IPC for each question,
 * and one for each answer.
 */

const names = { model: z.string(), revision: z.string() };
const askSchema = z.strictObject({
  type: z.literal("cluster"),
  id: z.int(),
  ask: z.discriminatedUnion("type", [
    z.strictObject({ type: z.literal("View"), model: z.string() }),
    z.strictObject({
      type: z.literal("EnsureCapacity"),
      ...names,
      groups: z.int().min(0),
      basis: z.int().min(0),
    }),
    z.strictObject({ type: z.literal("CreateGroup"), ...names, groupId: z.string() }),
    z.strictObject({ type: z.literal("DeleteGroup"), ...names, groupId: z.string() }),
  ]),
});
type Ask = z.infer<typeof askSchema>["ask"];

const viewSchema = z.strictObject({
  groups: z.array(
    z.strictObject({
      groupId: z.string(),
      revision: z.string(),
      exists: z.boolean(),
      failure: z.string().optional(),
    }),
  ),
  capacity: z.record(
    z.string(),
    z.strictObject({ asked: z.int(), there: z.int(), failure: z.string().optional() }),
  ),
});

const answerSchema = z.strictObject({
  type: z.literal("cluster answer"),
  id: z.int(),
  view: viewSchema.optional(),
  error: z
    .strictObject({
      code: z.enum(Object.keys(clusterErrors) as [keyof typeof clusterErrors]),
      message: z.string(),
    })
    .optional(),
});

/**
 * The supervisor's end. It takes every message of the child, and answers those that are for it.
 * @param answer sends to the child; one that is gone by then needs no answer.
 */
export function answerGroups(
  supervisor: GroupSupervisor,
  message: unknown,
  answer: (message: z.infer<typeof answerSchema>) => void,
): void {
  const asked = askSchema.safeParse(message);
  if (!asked.success) return;
  const { id, ask } = asked.data;
  const reply = (fields: object) => answer({ type: "cluster answer", id, ...fields });
  const done =
    ask.type === "View"
      ? supervisor.view(ask.model).then((view) => reply({ view }))
      : supervisor.follow(ask).then(() => reply({}));
  done.catch((error: unknown) => {
    const code = error instanceof ClusterError ? error.code : "unavailable";
    reply({ error: { code, message: error instanceof Error ? error.message : String(error) } });
  });
}

export interface ParentProcess {
  send?(message: unknown): unknown;
  on(event: "message", listener: (message: unknown) => void): unknown;
}

/** The control plane's end. */
export function supervisorOf(
  parent: ParentProcess,
  { answerWithinMs = 5_000 } = {},
): GroupSupervisor {
  const waiting = new Map<number, (answer: z.infer<typeof answerSchema>) => void>();
  let lastId = 0;
  parent.on("message", (message) => {
    const answer = answerSchema.safeParse(message);
    if (answer.success) waiting.get(answer.data.id)?.(answer.data);
  });

  async function ask(question: Ask): Promise<z.infer<typeof viewSchema> | undefined> {
    const id = ++lastId;
    const { promise, resolve, reject } = Promise.withResolvers<z.infer<typeof answerSchema>>();
    waiting.set(id, resolve);
    const timer = setTimeout(
      () => reject(new ClusterError("timeout", "The supervisor does not answer.")),
      answerWithinMs,
    );
    try {
      parent.send?.({ type: "cluster", id, ask: question });
      const { error, view } = await promise;
      if (error !== undefined) throw new ClusterError(error.code, error.message);
      return view;
    } finally {
      clearTimeout(timer);
      waiting.delete(id);
    }
  }

  return {
    async view(model) {
      const view = await ask({ type: "View", model });
      if (view === undefined) throw new ClusterError("unavailable", "The supervisor said nothing.");
      return view as SupervisorView;
    },
    async follow(order) {
      await ask(order);
    },
  };
}
