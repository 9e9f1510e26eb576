import * as z from "zod";
import type { Deps } from "../deps.ts";
import { provider } from "../provider.ts";

/** What is known of the deployment as a whole. */
export interface StageFacts {
  /** Its name. */
  stage: string;
  reportsQueueUrl: string;
}

export const stageFacts = provider(
  ["facts"],
  z.object({ AXON_STAGE_NAME: z.string().default("local"), AXON_REPORTS_QUEUE_URL: z.url() }),
  ({ AXON_STAGE_NAME: stage, AXON_REPORTS_QUEUE_URL: reportsQueueUrl }) => ({
    facts: { stage, reportsQueueUrl },
  }),
);

/** What it takes to see and to operate a deployment. */
export type OperatorDeps = Pick<
  Deps,
  "log" | "redis" | "sqs" | "database" | "models" | "facts" | "now" | "logger"
>;

/** Who looks: a tenant sees its own turns and conversations; without one everything is seen. */
export interface Viewer {
  tenantId: string | undefined;
}
