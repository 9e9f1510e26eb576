import type { Revision } from "../deployment.ts";
import { grouped, milliseconds } from "./amounts.ts";
import type { InstanceType } from "./instances.ts";
import { instanceTypes } from "./instances.ts";
import { countParameters, intermediateSize } from "./model-size.ts";
import { type Problem, refused, warning } from "./problem.ts";
import { stageSpansNodes, tokenTimeOf } from "./speed.ts";

/**
 * What a revision has to be so that its group can form at all. Each rule is one that the engine would
 * break on by itself, an hour later and on machines that cost money meanwhile.
 */

type Fields = (name: string) => string;

export function instanceProblems(
  revision: Revision,
  instance: InstanceType | undefined,
  field: Fields,
): Problem[] {
  const { engine, instanceType } = revision;
  if (instance === undefined) {
    const known = instanceTypes.map(({ name }) => name).join(", ");
    return [refused(field("instanceType"), `${instanceType} is not in the table: ${known}`)];
  }
  if (engine.kind === "vllm" && instance.gpus === undefined) {
    return [refused(field("instanceType"), `${instanceType} has no GPU, which vLLM needs`)];
  }
  if (engine.kind === "embedded" && instance.gpus !== undefined) {
    const message = `${instanceType} has GPUs, which the embedded engine does not use: take a c7a or c7i`;
    return [refused(field("instanceType"), message)];
  }
  return [];
}

/** Numbers that contradict each other. */
export function shapeProblems({ shape }: Revision, field: Fields): Problem[] {
  const problems: Problem[] = [];
  const { attentionHeads, keyValueHeads, parameters } = shape;
  if (attentionHeads % keyValueHeads !== 0) {
    const message = `${keyValueHeads} does not divide the ${attentionHeads} attention heads`;
    problems.push(refused(field("shape.keyValueHeads"), message));
  }
  if (countParameters(shape).mlp <= 0) {
    const message = `${grouped(parameters)} are fewer than embeddings and attention have by themselves`;
    problems.push(refused(field("shape.parameters"), message));
  }
  return problems;
}

/** How the model is cut. */
export function splitProblems(revision: Revision, field: Fields): Problem[] {
  const { shape, engine, tensorParallel: ranks, pipelineParallel } = revision;
  const { attentionHeads, keyValueHeads, layers } = shape;
  const problems: Problem[] = [];
  const problem = (message: string) => problems.push(refused(field("tensorParallel"), message));
  if (engine.kind === "embedded") {
    if (ranks > attentionHeads) problem(`${ranks} ranks are more than ${attentionHeads} heads`);
    return problems;
  }
  if (attentionHeads % ranks !== 0) {
    problem(`${attentionHeads} attention heads cannot be split evenly over ${ranks} GPUs`);
  }
  if (keyValueHeads % ranks !== 0 && ranks % keyValueHeads !== 0) {
    problem(
      `${keyValueHeads} heads of keys and values can neither be split over ${ranks} GPUs nor repeated`,
    );
  }
  const columns = intermediateSize(shape);
  if (Number.isInteger(columns) && columns > 0 && columns % ranks !== 0) {
    problem(`${columns} columns of the MLP cannot be split evenly over ${ranks} GPUs`);
  }
  if (layers < pipelineParallel) {
    const message = `${layers} layers are fewer than ${pipelineParallel} stages`;
    problems.push(refused(field("pipelineParallel"), message));
  }
  return problems;
}

/** How the ranks lie on the nodes. */
export function placementProblems(
  revision: Revision,
  instance: InstanceType,
  field: Fields,
): Problem[] {
  return revision.engine.kind === "vllm"
    ? gpuPlacement(revision, instance, field)
    : corePlacement(revision, instance, field);
}

function gpuPlacement(revision: Revision, instance: InstanceType, field: Fields): Problem[] {
  const { nodes, tensorParallel, pipelineParallel } = revision;
  const ofNode = instance.gpus?.count ?? 0;
  const problems: Problem[] = [];
  const ranks = tensorParallel * pipelineParallel;
  if (ranks !== nodes * ofNode) {
    const message =
      `tensorParallel × pipelineParallel = ${tensorParallel} × ${pipelineParallel} = ${ranks}, ` +
      `but ${nodes} × ${instance.name} have ${nodes * ofNode} GPUs`;
    problems.push(refused(field("tensorParallel"), message));
  }
  if (nodes > 1 && stageSpansNodes(revision, instance)) {
    const { allReduces, onEfaSeconds } = tokenTimeOf(revision, instance);
    const time = `${allReduces} all-reduces a token go between nodes`;
    problems.push(
      instance.efaCards === 0
        ? refused(field("tensorParallel"), `${time}, and ${instance.name} has no EFA`)
        : warning(
            field("tensorParallel"),
            `${time}, up to ${milliseconds(onEfaSeconds)} over EFA: ${ofNode} keeps them within a node`,
          ),
    );
  } else if (nodes > 1 && instance.efaCards === 0) {
    const message = `${instance.name} has no EFA: the stages of the pipeline talk over TCP`;
    problems.push(warning(field("instanceType"), message));
  }
  return problems;
}

/** What dataplane/config.ts takes. */
const mostEmbedded = { ranks: 64, slots: 256 };

function corePlacement(revision: Revision, instance: InstanceType, field: Fields): Problem[] {
  const { nodes, tensorParallel, pipelineParallel, slots } = revision;
  const problems: Problem[] = [];
  if (pipelineParallel !== 1) {
    const message = "the embedded engine has no pipeline: make it 1";
    problems.push(refused(field("pipelineParallel"), message));
  }
  if (tensorParallel % nodes !== 0) {
    const message = `${tensorParallel} ranks cannot be dealt out evenly to ${nodes} nodes`;
    problems.push(refused(field("tensorParallel"), message));
  }
  const ofNode = Math.ceil(tensorParallel / nodes);
  // One core is the event loop's: ranks that wait for each other spin.
  if (ofNode > instance.cores - 1 || tensorParallel > mostEmbedded.ranks) {
    const message =
      `${ofNode} ranks a node on ${instance.name}: it has ${instance.cores} cores, one of them for the ` +
      `event loop, and a group has ${mostEmbedded.ranks} ranks at most`;
    problems.push(refused(field("tensorParallel"), message));
  }
  if (slots > mostEmbedded.slots) {
    const message = `the embedded engine runs ${mostEmbedded.slots} turns at most`;
    problems.push(refused(field("slots"), message));
  }
  return problems;
}
