import type { Deployment } from "../cluster/deployment.ts";
import { names, namespace } from "../cluster/objects/names.ts";
import { podsAssume } from "./cluster-addons.ts";
import type { Functions } from "./functions.ts";
import type { Models } from "./models.ts";
import type { Permission } from "./needs.ts";
import type { Queues } from "./queues.ts";
import type { Socket } from "./socket.ts";
import { nameOf } from "./stage.ts";

interface RoleParts {
  eks: aws.eks.Cluster;
  queues: Queues;
  models: Models;
  socket: Socket;
  handlers: Functions;
}

/**
 * Whom the processes of the data plane are to AWS: by EKS Pod Identity, a role for each service account.
 * None of them may touch the log: the control plane alone writes it.
 * @returns what must be there before pods start: a pod gets its credentials when it is made.
 */
export function podRoles({ relays }: Deployment, parts: RoleParts): $util.Resource[] {
  return [
    podRole("Worker", names.workerAccount, parts.eks, workerPermissions(parts)),
    podRole("Relay", names.relayAccount, parts.eks, relayPermissions(parts, relays.frontDoor)),
  ];
}

function workerPermissions({ queues, models }: RoleParts): Permission[] {
  const pairs = [...queues.jobs.values()];
  return [
    {
      actions: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
      resources: pairs.map(({ queue }) => queue.arn),
    },
    {
      actions: ["sqs:SendMessage"],
      resources: [queues.reports.queue.arn, ...pairs.map(({ dead }) => dead.arn)],
    },
    { actions: ["s3:GetObject"], resources: [$interpolate`${models.arn}/*`] },
    { actions: ["s3:ListBucket"], resources: [models.arn] },
  ];
}

function relayPermissions({ socket, handlers }: RoleParts, hasDoor: boolean): Permission[] {
  const { executionArn } = socket.nodes.api;
  const behindDoor = [
    ...[handlers.connect, handlers.disconnect, handlers.unrouted, handlers.chat],
    ...[handlers.resume, handlers.cancel, handlers.observe, handlers.operate],
  ];
  return [
    {
      actions: ["execute-api:ManageConnections"],
      resources: [$interpolate`${executionArn}/*/*/@connections/*`],
    },
    ...(hasDoor
      ? [
          {
            actions: ["lambda:InvokeFunction"],
            resources: behindDoor.map(({ arn }) => arn),
          },
        ]
      : []),
  ];
}

function podRole(
  logical: string,
  serviceAccount: string,
  eks: aws.eks.Cluster,
  permissions: Permission[],
): aws.eks.PodIdentityAssociation {
  const role = new aws.iam.Role(`${logical}Role`, {
    name: nameOf(logical.toLowerCase()),
    assumeRolePolicy: podsAssume,
    inlinePolicies: [inline(permissions)],
  });
  return new aws.eks.PodIdentityAssociation(`${logical}Identity`, {
    ...{ clusterName: eks.name, namespace, serviceAccount, roleArn: role.arn },
  });
}

const inline = (statements: Permission[]) => ({
  name: "inline",
  policy: aws.iam.getPolicyDocumentOutput({ statements }).json,
});
