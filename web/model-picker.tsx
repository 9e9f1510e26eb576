import { useEffect, useState } from "react";
import type { Config } from "./config.ts";
import { historyApi } from "./history-api.ts";

interface Props {
  config: Config;
  model: string | undefined;
  onChoose: (model: string) => void;
}

/** Shown only where there is a choice. */
export function ModelPicker({ config, model, onChoose }: Props) {
  const [models, setModels] = useState<{ model: string; default: boolean }[]>([]);
  useEffect(() => {
    // Without the list the default model answers: nothing to trouble anyone with.
    historyApi(config)
      .models()
      .then(setModels, () => {});
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
