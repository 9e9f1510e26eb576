import type { ObservedData, View, ViewQuestion } from "../../../events/views.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";
import { seeFold } from "./see-fold.ts";
import { seeGroups } from "./see-groups.ts";
import { seeLog } from "./see-log.ts";
import { seeOverview } from "./see-overview.ts";
import { seeQueues } from "./see-queues.ts";
import { seeRollout } from "./see-rollout.ts";
import { seeSeries } from "./see-series.ts";
import { seeTurn } from "./see-turn.ts";
import { seeTurns } from "./see-turns.ts";

/**
 * What a view shows to whoever looks.
 * @throws AxonError turn_not_found | not_found | unknown_model | invalid_field, or what a store throws.
 */
export async function see(
  deps: OperatorDeps,
  question: ViewQuestion,
  viewer: Viewer,
): Promise<ObservedData[View]> {
  switch (question.view) {
    case "overview":
      return seeOverview(deps, viewer);
    case "groups":
      return { groups: await seeGroups(deps) };
    case "queues":
      return { queues: await seeQueues(deps) };
    case "turns":
      return seeTurns(deps, question, viewer);
    case "turn":
      return seeTurn(deps, question.turnId, viewer);
    case "rollout":
      return seeRollout(deps, question.model ?? deps.models.pick(undefined).model, question);
    case "log":
      return seeLog(deps, question, viewer);
    case "fold":
      return seeFold(deps, question, viewer);
    case "series":
      return seeSeries(deps, question, viewer);
  }
}
