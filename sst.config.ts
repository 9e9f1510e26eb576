/// <reference path="./.sst/platform/config.d.ts" />

/**
 * The deployment on AWS: `npx sst deploy --stage prod`, described in docs/DEPLOY.md. What is deployed
 * stands in axon.config.ts; this file only lists the stacks, in the order in which they build on each
 * other. SST wants no imports above: it reads `app` before there is anything to import.
 */
export default $config({
  async app({ stage }) {
    const { default: deployment } = await import("./axon.config.ts");
    const isProduction = stage === "prod";
    return {
      name: "axon",
      home: "aws",
      // What holds data outlives `sst remove` in production, where that is refused to begin with.
      removal: isProduction ? "retain" : "remove",
      protect: isProduction,
      providers: {
        aws: { version: "7.20.0", region: deployment.region },
        kubernetes: "4.34.2",
        "docker-build": "0.0.14",
        random: "4.16.6",
      },
    };
  },

  console: {
    autodeploy: {
      /** The branch `production` goes to the stage of the same meaning; nothing else is deployed by itself. */
      target(event) {
        if (event.type === "branch" && event.branch === "production" && event.action === "pushed")
          return { stage: "prod" };
        return undefined;
      },
      // It builds the image of the data plane, which takes memory.
      runner: { engine: "codebuild", compute: "large", timeout: "2 hours" },
    },
  },

  async run() {
    const { default: deployment } = await import("./axon.config.ts");
    const { checkDeployment } = await import("./cluster/plan/plan.ts");
    const { alarms } = await import("./stacks/alarms.ts");
    const { burnAlarms } = await import("./stacks/burn-alarms.ts");
    const { cache } = await import("./stacks/cache.ts");
    const { cluster } = await import("./stacks/cluster.ts");
    const { dataKeys } = await import("./stacks/data-keys.ts");
    const { functions } = await import("./stacks/functions.ts");
    const { key } = await import("./stacks/key.ts");
    const { log } = await import("./stacks/log.ts");
    const { models } = await import("./stacks/models.ts");
    const { network } = await import("./stacks/network.ts");
    const { queues } = await import("./stacks/queues.ts");
    const { rollout } = await import("./stacks/rollout.ts");
    const { schedule } = await import("./stacks/schedule.ts");
    const { routes, socket } = await import("./stacks/socket.ts");
    const { sources } = await import("./stacks/sources.ts");
    const { store } = await import("./stacks/store.ts");
    const { web } = await import("./stacks/web.ts");

    // What does not fit is refused with the reason, before anything is made.
    checkDeployment(deployment);

    const parts = { key: key(), network: await network(deployment) };
    const { alarm, topic } = alarms(deployment, parts.key);
    const data = {
      log: log(),
      dataKeys: dataKeys(parts.key),
      queues: queues(deployment, alarm),
      cache: cache(parts.network, alarm),
      store: store(parts.network, alarm),
      models: models(),
    };
    const door = socket(deployment, parts.key);
    const making = { ...parts, ...data, socket: door, alarm };
    const { handlers, ...made } = functions(deployment, making);
    routes(door, handlers);
    sources({ ...data, handlers, alarm });
    burnAlarms(handlers, topic);
    schedule("Tick", handlers.sweep);
    const { eks, ...groups } = cluster(deployment, { ...parts, ...data, socket: door, handlers });
    const page = web({ key: parts.key, socket: door, handlers });
    const { ops } = rollout(deployment, { ...making, ...made, ...groups, eks });
    return {
      page: page.url,
      socket: door.url,
      // OpenAI's API: what its clients take for their base URL.
      openai: $interpolate`${handlers.completions.url}v1`,
      models: data.models.name,
      cluster: eks.name,
      // What `npx axon … --stage` asks: operators, and what is kept of data.
      ops: ops.name,
      data: handlers.data.name,
    };
  },
});
