import { AxonError } from "../events/errors.ts";
import { cancelFrameSchema, chatFrameSchema, resumeFrameSchema } from "../events/frames.ts";
import type { Deps } from "./lib/deps.ts";
import { parseObject, rawSocketHandler, type SocketHandler } from "./lib/socket.ts";

const actions = [chatFrameSchema, cancelFrameSchema, resumeFrameSchema].map(
  (schema) => schema.shape.action.value,
);

/** Answers what the gateway could not route: no JSON, or an action that nothing here is called. */
export function unrouted(deps: Deps): SocketHandler {
  return rawSocketHandler(deps, async (event) => {
    parseObject(event);
    throw new AxonError(
      "unknown_action",
      `action: names nothing that there is. Use one of: ${actions.join(", ")}.`,
      { field: "action" },
    );
  });
}
