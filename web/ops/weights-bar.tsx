import type { RolloutStatus } from "../../events/views.ts";
import { StackedBar } from "./stacked-bar.tsx";

/** The share of new conversations that each revision gets. */
export function WeightsBar({ weights }: { weights: RolloutStatus["weights"] }) {
  if (weights.length === 0) return <>no revision</>;
  return (
    <StackedBar
      label="Share of new conversations"
      parts={weights.map(({ revision, percent }) => ({
        ...{ name: revision, value: percent, text: `${percent} %` },
      }))}
    />
  );
}
