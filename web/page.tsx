import { Activity, lazy, Suspense } from "react";
import { App } from "./app.tsx";
import type { Config } from "./config.ts";
import { ErrorBoundary } from "./error-boundary.tsx";
import { useRoute } from "./route.ts";

/** Its views and plots are loaded by whoever opens it, not with the chat. */
const OpsApp = lazy(async () => ({ default: (await import("./ops/ops-app.tsx")).OpsApp }));

/** The chat, or the operations page. Answers go on while the other is shown. */
export function Page({ config }: { config: Config }) {
  const route = useRoute();
  const isOps = route.view === "ops";
  return (
    <>
      <Activity mode={isOps ? "hidden" : "visible"}>
        <App config={config} />
      </Activity>
      {isOps && (
        <ErrorBoundary message="The operations page could not be loaded.">
          <Suspense fallback={<p className="fatal">Loading the operations page…</p>}>
            <OpsApp config={config} />
          </Suspense>
        </ErrorBoundary>
      )}
    </>
  );
}
