import { AxonError } from "../events/errors.ts";
import { cancelFrameSchema, chatFrameSchema, resumeFrameSchema } from "../events/frames.ts";
import type { ObserveFrame, OperateFrame } from "../events/observations.ts";
import { connections } from "./lib/connections.ts";
import { lambda } from "./lib/lambda.ts";
import {
  type AnswerDeps,
  parseObject,
  rawSocketHandler,
  type SocketHandler,
} from "./lib/socket.ts";

const actions = [
  ...[chatFrameSchema, cancelFrameSchema, resumeFrameSchema].map(
    (schema) => schema.shape.action.value,
  ),
  // Their schemas would be most of this function.
  ...(["observe", "operate"] satisfies (ObserveFrame | OperateFrame)["action"][]),
];

/** Answers what the gateway could not route: no JSON, or an action that nothing here is called. */
export function unrouted(deps: AnswerDeps): SocketHandler {
  return rawSocketHandler(deps, async (event) => {
    parseObject(event);
    throw new AxonError(
      "unknown_action",
      `action: names nothing that there is. Use one of: ${actions.join(", ")}.`,
      { field: "action" },
    );
  });
}

export const handler = lambda(unrouted, [connections]);
