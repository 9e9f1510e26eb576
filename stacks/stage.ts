/** The stage that people rely on: it is protected, doubled where that keeps it up, and backed up. */
export const isProduction = (): boolean => $app.stage === "prod";

/** The name of a resource as operators meet it: in the console, in alarms, on the command line. */
export const nameOf = (resource: string): string => `${$app.name}-${$app.stage}-${resource}`;

/** Of CloudWatch's metrics that the functions make. */
export const metricsNamespace = (): string => `Axon/${$app.stage}`;

/** A revision or an instance type as part of a Pulumi name, which must be unique and never changes. */
export const logicalName = (name: string): string =>
  name
    .split(/[^A-Za-z0-9]+/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
