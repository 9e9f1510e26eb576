import * as z from "zod";
import { AxonError } from "../../events/errors.ts";
import { samplingSchema } from "../../events/sampling.ts";
import { json, provider } from "./provider.ts";

const modelSchema = z.strictObject({
  /** The name that a client asks for. */
  model: z.string().min(1).max(100),
  /** The exact build behind it. */
  revision: z.string().min(1).max(200),
  /** Where the revision's group takes its jobs. */
  queueUrl: z.url(),
  default: z.boolean(),
  /** Tokens that prompt and answer may have together. */
  contextTokens: z.int().min(1),
  systemPrompt: z.string().optional(),
  /** What a request gets that asks for nothing else. */
  sampling: samplingSchema.omit({ seed: true }),
});
export type Model = z.infer<typeof modelSchema>;

const modelsSchema = z
  .array(modelSchema)
  .refine((models) => models.filter((model) => model.default).length === 1, {
    message: "exactly one model must be the default",
  })
  .refine((models) => new Set(models.map((model) => model.revision)).size === models.length, {
    message: "each revision must be there once",
  });

export const models = provider(
  ["models"],
  z.object({ AXON_MODELS: json.pipe(modelsSchema) }),
  ({ AXON_MODELS }) => ({ models: modelCatalog(AXON_MODELS) }),
);

/** The models that can be asked for. */
export interface ModelCatalog {
  all(): readonly Model[];
  /**
   * The first revision of a name; without one, the default model's. Which of its revisions a turn gets is
   * for `route` (routing.ts) to say.
   * @throws AxonError unknown_model
   */
  pick(name: string | undefined): Model;
  withRevision(revision: string): Model | undefined;
}

export function modelCatalog(models: readonly Model[]): ModelCatalog {
  return {
    all: () => models,
    pick(name) {
      const found = models.find((model) =>
        name === undefined ? model.default : model.model === name,
      );
      if (found !== undefined) return found;
      const names = [...new Set(models.map((model) => model.model))].join(", ");
      throw new AxonError("unknown_model", `There is no such model. There are: ${names}.`, {
        field: "model",
      });
    },
    withRevision: (revision) => models.find((model) => model.revision === revision),
  };
}
