/** What is wrong with a deployment, or may not be what was meant. */
export interface Problem {
  /** What is refused is not deployed. */
  severity: "refused" | "warning";
  /** Where in axon.config.ts, such as models.0.revisions.0.slots. */
  field: string;
  message: string;
}

export const refused = (field: string, message: string): Problem => ({
  ...{ severity: "refused", field, message },
});

export const warning = (field: string, message: string): Problem => ({
  ...{ severity: "warning", field, message },
});
