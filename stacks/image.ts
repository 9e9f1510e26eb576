import { nameOf } from "./stage.ts";

/**
 * The image of worker, follower and relay: what `Dockerfile` builds, in the account's own registry. Relays
 * run on ARM, workers beside GPUs on x86; it is built for both, by the Docker of whoever deploys.
 * @returns its name with the digest: what runs is what was built.
 */
export function dataPlaneImage(): $util.Output<string> {
  const repository = new aws.ecr.Repository("Image", {
    name: nameOf("data-plane"),
    imageTagMutability: "MUTABLE",
    imageScanningConfiguration: { scanOnPush: true },
    encryptionConfigurations: [{ encryptionType: "AES256" }],
    forceDelete: true,
  });
  const token = aws.ecr.getAuthorizationTokenOutput({ registryId: repository.registryId });
  const image = new dockerbuild.Image("Image", {
    context: { location: $cli.paths.root },
    dockerfile: { location: `${$cli.paths.root}/Dockerfile` },
    platforms: ["linux/amd64", "linux/arm64"],
    tags: [$interpolate`${repository.repositoryUrl}:latest`],
    push: true,
    buildOnPreview: false,
    registries: [
      {
        address: repository.repositoryUrl,
        username: token.userName,
        password: $util.secret(token.password),
      },
    ],
  });
  new aws.ecr.LifecyclePolicy("ImageLifecycle", {
    repository: repository.name,
    policy: JSON.stringify({
      rules: [
        {
          rulePriority: 1,
          description: "The images of the last deployments stay, for a way back.",
          selection: { tagStatus: "untagged", countType: "imageCountMoreThan", countNumber: 20 },
          action: { type: "expire" },
        },
      ],
    }),
  });
  return image.ref;
}
