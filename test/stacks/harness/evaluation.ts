import type { Bundle } from "./bundle-function.ts";

/** A resource as Pulumi was asked to make it. */
export interface Made {
  /** Pulumi's token, such as `aws:sqs/queue:Queue`. */
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are resources.
  inputs: Record<string, any>;
  retainOnDelete: boolean;
  ignoreChanges: string[];
  /** URNs. */
  dependsOn: string[];
}

/** What came of sst.config.ts for one stage. */
export interface Evaluation {
  app: { name: string; removal?: string; protect?: boolean };
  made: Made[];
  bundles: Bundle[];
  /** What the deployment prints at its end. */
  outputs: Record<string, unknown>;
  /** Branch → the stage that a push to it is deployed to by the SST Console. */
  autodeployed: Record<string, string | string[] | undefined>;
}
