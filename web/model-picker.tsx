import { useEffect, useState } from "react";
import type { Config } from "./config.ts";
import { historyApi } from "./history-api.ts";

interface Props {
  config: Config;
  model: string | undefined;
  onChoose: (model: string) => void;
}

interface Model {
  model: string;
  default: boolean;
}

/** Each name once, whatever revisions are behind it. */
function byName(listed: readonly Model[]): Model[] {
  const names = [...new Set(listed.map(({ model }) => model))];
  return names.map((model) => ({
    model,
    default: listed.some((each) => each.model === model && each.default),
  }));
}

/** Shown only where there is a choice. */
export function ModelPicker({ config, model, onChoose }: Props) {
  const [models, setModels] = useState<Model[]>([]);
  useEffect(() => {
    // Without the list the default model answers: nothing to trouble anyone with.
    historyApi(config)
      .models()
      .then(
        (listed) => setModels(byName(listed)),
        () => {},
      );
  }, [config]);
  if (models.length < 2) return null;
  const current = model ?? models.find((each) => each.default)?.model;
  return (
    <select aria-label="Model" value={current} onChange={(event) => onChoose(event.target.value)}>
      {models.map((each) => (
        <option key={each.model}>{each.model}</option>
      ))}
    </select>
  );
}
