import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { ruleGroups } from "../cluster/observability/alerts.ts";
import { dashboard } from "../cluster/observability/dashboard.ts";

/**
 * Writes what Grafana and Prometheus read, from cluster/observability/: `npm run build:dashboards`.
 * An argument names another folder.
 */
const folder = process.argv[2] ?? join(import.meta.dirname, "observability");
mkdirSync(folder, { recursive: true });

const head = "# Made by npm run build:dashboards from cluster/observability/: change it there.\n";
writeFileSync(join(folder, "grafana.json"), `${JSON.stringify(dashboard(), null, 2)}\n`);
writeFileSync(
  join(folder, "prometheus-rules.yaml"),
  head + stringify({ groups: ruleGroups() }, { lineWidth: 0, aliasDuplicateObjects: false }),
);
