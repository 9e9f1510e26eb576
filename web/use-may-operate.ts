import { useEffect, useState } from "react";
import type { Config } from "./config.ts";

/** Whether the operations page would be shown to this credential. Until the server has said so, it is not. */
export function useMayOperate(config: Config): boolean {
  const [mayOperate, setMayOperate] = useState(false);
  useEffect(() => {
    let isOver = false;
    import("./ops/may-observe.ts")
      .then(({ mayObserve }) => mayObserve(config))
      // Without an answer there is no link, and its address still works.
      .then(
        (may) => !isOver && setMayOperate(may),
        () => {},
      );
    return () => {
      isOver = true;
    };
  }, [config]);
  return mayOperate;
}
