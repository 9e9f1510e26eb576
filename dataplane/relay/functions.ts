import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { InvocationTimeout, type SocketFunctions } from "./sockets.ts";

/** API Gateway gives a function 29 s; so does a relay's own door. */
const integrationMs = 29_000;

/** The functions behind the routes of a relay's own door, on Lambda: by route, their names or ARNs. */
export function lambdaFunctions(names: Readonly<Record<string, string>>): SocketFunctions {
  const client = new LambdaClient({
    maxAttempts: 3,
    requestHandler: {
      connectionTimeout: 2_000,
      requestTimeout: integrationMs,
      throwOnRequestTimeout: true,
    },
  });
  return {
    has: (route) => Object.hasOwn(names, route),
    async invoke(route, event) {
      const FunctionName = names[route];
      if (FunctionName === undefined) return undefined;
      const { FunctionError, Payload } = await client
        .send(new InvokeCommand({ FunctionName, Payload: JSON.stringify(event) }))
        .catch((error: unknown) => {
          if (!(error instanceof Error) || error.name !== "TimeoutError") throw error;
          throw new InvocationTimeout(`${FunctionName} ran too long.`, { cause: error });
        });
      const text = Payload?.transformToString() ?? "";
      if (FunctionError !== undefined) {
        throw new Error(`${FunctionName} failed: ${text.slice(0, 500)}`);
      }
      return text === "" ? undefined : JSON.parse(text);
    },
  };
}
