# syntax=docker/dockerfile:1
# The processes of the data plane: worker, follower, relay, a rank of the embedded engine, and the fetcher of
# models. Which of them a container is stands in its arguments:
#
#   docker build -t axon .
#   docker run --rm axon dataplane/worker.ts --help
#
# With a signed bill of materials and provenance beside the image:
#
#   docker buildx build --sbom=true --provenance=mode=max -t REPOSITORY/axon:VERSION --push .
#
# The bill of materials of the packages also lies in the image: /app/sbom.spdx.json.

ARG NODE=node:24.21.0-bookworm-slim

FROM ${NODE} AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# Exactly what the lock file says; then what the data plane does not import goes.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
COPY events ./events
COPY dataplane ./dataplane
COPY cluster/image ./image
RUN node image/dependencies.mjs . \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && npm sbom --omit=dev --sbom-format=spdx > sbom.spdx.json \
  && rm -rf image package-lock.json

FROM ${NODE}
# As the first process node would ignore SIGTERM until it listens for it, which may be minutes, while a model
# is loaded; and it would not collect the ranks that have ended.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* \
  # Nothing is installed at run time.
  && rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /opt/yarn*
WORKDIR /app
COPY --from=packages --chown=root:root /app /app
ENV NODE_ENV=production
USER 10001:10001
STOPSIGNAL SIGTERM
# For engines without probes of their own; Kubernetes asks by itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30m \
  CMD ["node", "-e", "const p = process.env.AXON_PROBES?.split(':').at(-1); if (p) fetch(`http://127.0.0.1:${p}/ready`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["tini", "--", "node"]
CMD ["dataplane/worker.ts", "--help"]
