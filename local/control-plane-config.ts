import { z } from "zod";
import { stageModelSchema } from "./model.ts";

/** What the supervisor tells the control plane, as JSON in AXON_STAGE. */
export const controlPlaneSchema = z.strictObject({
  host: z.string(),
  port: z.int(),
  /** Folder of the built page. */
  pageDir: z.string(),
  /** The key that the page is given. */
  credential: z.string(),
  model: stageModelSchema,
  /** The stage's data; the revisions are in it. */
  dataDir: z.string(),
  /** Groups that serve the model when it is new here. */
  groups: z.int().min(1),
  /** Where its functions can be invoked by name. */
  lambdaPort: z.int(),
  /** Where WebSockets are opened, when not at the gateway. */
  doorUrl: z.string().optional(),
});
export type ControlPlaneConfig = z.infer<typeof controlPlaneSchema>;
