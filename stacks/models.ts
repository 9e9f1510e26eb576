import { isProduction, nameOf } from "./stage.ts";

export type Models = ReturnType<typeof models>;

/**
 * The bucket of checkpoints: one folder for each revision (`weights` in axon.config.ts). Nodes read it
 * through the VPC's endpoint. A manifest that lands under `rollouts/` starts a rollout (rollout.ts). That is
 * subscribed there, for all that may be told of the bucket: it has one notification configuration.
 */
export function models() {
  return new sst.aws.Bucket("Models", {
    versioning: true,
    enforceHttps: true,
    transform: {
      bucket: (args) => {
        args.forceDestroy = !isProduction();
        args.serverSideEncryptionConfiguration = {
          rule: { applyServerSideEncryptionByDefault: { sseAlgorithm: "AES256" } },
        };
        args.tags = { Name: nameOf("models") };
        return undefined;
      },
    },
  });
}
