import { ClusterError } from "../../../events/cluster-port.ts";

/** What failures of EKS and of Kubernetes' API mean to the rollout manager. */

type Code = ClusterError["code"];

/** Names of EKS's exceptions (API reference of EKS, "Common errors" and those of each action). */
const eksCodes: Record<string, Code> = {
  ThrottlingException: "throttled",
  TooManyRequestsException: "throttled",
  RequestLimitExceeded: "throttled",
  // Another update of the node group is under way.
  ResourceInUseException: "conflict",
  InvalidStateException: "conflict",
  ResourceLimitExceededException: "quota",
  AccessDeniedException: "forbidden",
  UnrecognizedClientException: "forbidden",
  InvalidClientTokenId: "forbidden",
  ExpiredTokenException: "forbidden",
  ResourceNotFoundException: "unknown",
  NotFoundException: "unknown",
  InvalidParameterException: "rejected",
  InvalidRequestException: "rejected",
  ClientException: "rejected",
  ValidationException: "rejected",
  ServerException: "unavailable",
  ServiceUnavailableException: "unavailable",
  TimeoutError: "timeout",
  RequestTimeout: "timeout",
  RequestTimeoutException: "timeout",
};

/** @param doing what was asked, for the message. */
export function eksFailure(error: unknown, doing: string): ClusterError {
  if (error instanceof ClusterError) return error;
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  const code = eksCodes[name] ?? "unavailable";
  return new ClusterError(code, `EKS, ${doing}: ${name} ${message}`, error);
}

/**
 * An answer of Kubernetes' API that is no success (kubernetes.io, "API conventions", "HTTP status codes"
 * and "Response status kind").
 */
export class KubernetesError extends Error {
  override readonly name = "KubernetesError";
  readonly status: number;
  /** `reason` of the answer's Status: AlreadyExists, Conflict, Forbidden … */
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** No answer came in time. */
export class KubernetesTimeout extends Error {
  override readonly name = "KubernetesTimeout";
}

/** @param doing what was asked, for the message. */
export function kubernetesFailure(error: unknown, doing: string): ClusterError {
  if (error instanceof ClusterError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const text = `Kubernetes, ${doing}: ${message}`;
  if (error instanceof KubernetesTimeout) return new ClusterError("timeout", text, error);
  if (!(error instanceof KubernetesError)) return new ClusterError("unavailable", text, error);
  return new ClusterError(codeOf(error), text, error);
}

function codeOf({ status, message }: KubernetesError): Code {
  // A ResourceQuota refuses as if it were a matter of rights.
  if (status === 403) return /exceeded quota/i.test(message) ? "quota" : "forbidden";
  if (status === 401) return "forbidden";
  if (status === 404) return "unknown";
  if (status === 409) return "conflict";
  if (status === 429) return "throttled";
  if (status === 408 || status === 504) return "timeout";
  return status >= 500 ? "unavailable" : "rejected";
}
