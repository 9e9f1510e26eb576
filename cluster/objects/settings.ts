import type { Deployment, Revision } from "../deployment.ts";

/** What the objects need to know of the account that they are for. */
export interface ClusterSettings {
  /** Of the worker, its followers and the relay: what `Dockerfile` builds. */
  image: string;
  /** The bucket that the weights lie in. */
  modelBucket: string;
  /** Addresses of the VPC: Redis and the endpoints of AWS's services are in it. */
  vpcCidr: string;
  /** ElastiCache Serverless listens on two: writes, and reads from replicas. */
  redisPorts: readonly number[];
  /** Where a revision's jobs come from and its reports go to. */
  queues: Readonly<Record<string, RevisionQueues>>;
  relay: {
    /** API Gateway's callback API. */
    connectionsEndpoint: string;
    /** Route → name or ARN of its Lambda function; for the front door. */
    functions: Readonly<Record<string, string>>;
    /** Of ACM, for the front door's name. */
    certificateArn?: string;
  };
  /** Roles by IRSA; without them the roles come by EKS Pod Identity, and nothing stands here. */
  roleArns?: { worker: string; relay: string };
}

interface RevisionQueues {
  jobsQueueUrl: string;
  deadQueueUrl: string;
  reportsQueueUrl: string;
}

/** What of a machine the objects depend on. */
export interface Machine {
  vcpus: number;
  memoryBytes: number;
  gpus?: { count: number };
  /** 0 where nodes can talk over TCP only. */
  efaCards: number;
}

/** What the pods of a revision are built from. */
export interface PodContext {
  deployment: Deployment;
  revision: Revision;
  machine: Machine;
  settings: ClusterSettings;
}

/** Something that cannot be built from what the deployment says. */
export class ObjectError extends Error {
  override readonly name = "ObjectError";
}

/** How long things take, in seconds. */
export const patience = {
  /** For running turns to end after SIGTERM. */
  drain: 60,
  /** For vLLM to end after its last turn: its own `--shutdown-timeout`. */
  engineShutdown: 15,
  /**
   * For an engine that has turns and makes no step. The worker ends it then, in order; the probe looks for
   * the double of it, and ends the worker, if that does not.
   */
  stall: 20,
  /** For what lies between the two, and after them. */
  margin: 15,
  /** From a pod's start to a group that answers: images, weights, compilation, CUDA graphs. */
  start: 45 * 60,
} as const;

/** The whole of an end: first the worker, then the engine. */
export const gracePeriodSeconds = patience.drain + patience.engineShutdown + patience.margin;
