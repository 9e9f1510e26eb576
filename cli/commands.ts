import type { Command } from "./command.ts";

/** A command, which is loaded only when it is asked for: each brings clients of its own along. */
interface Listed {
  summary: string;
  load(): Promise<Command>;
}

const plain = <Options extends Command["options"]>(command: Command<Options>): Command =>
  command as unknown as Command;

/** All of them, in the order in which they are shown. */
export const commands: Readonly<Record<string, Listed>> = {
  chat: {
    summary: "ask, and read the answer as it comes",
    load: async () => plain((await import("./chat.ts")).chatCommand),
  },
  status: {
    summary: "how everything is, on one page",
    load: async () => plain((await import("./status.ts")).statusCommand),
  },
  turns: {
    summary: "the turns that run, and those that have ended",
    load: async () => plain((await import("./turns.ts")).turnsCommand),
  },
  turn: {
    summary: "one turn: what happened to it, and where its time went",
    load: async () => plain((await import("./turn.ts")).turnCommand),
  },
  groups: {
    summary: "the groups, how busy they are; rotate one",
    load: async () => plain((await import("./groups.ts")).groupsCommand),
  },
  queues: {
    summary: "what waits in the queues",
    load: async () => plain((await import("./queues.ts")).queuesCommand),
  },
  jobs: {
    summary: "messages that could not be worked off; try them again",
    load: async () => plain((await import("./jobs.ts")).jobsCommand),
  },
  log: {
    summary: "the events of a turn, or of everything, as they come",
    load: async () => plain((await import("./log.ts")).logCommand),
  },
  rollout: {
    summary: "moves a model's traffic from one revision to the next",
    load: async () => plain((await import("./rollout.ts")).rolloutCommand),
  },
  keys: {
    summary: "API keys of tenants, with what each may do",
    load: async () => plain((await import("./keys.ts")).keysCommand),
  },
  rebuild: {
    summary: "reads the log into the history anew, without downtime",
    load: async () => plain((await import("./data.ts")).rebuildCommand),
  },
  erase: {
    summary: "erases what was said in a conversation, or by a tenant, for good",
    load: async () => plain((await import("./data.ts")).eraseCommand),
  },
  export: {
    summary: "what was said in a conversation, or by a tenant",
    load: async () => plain((await import("./data.ts")).exportCommand),
  },
  doctor: {
    summary: "whether everything is there, and what to do where it is not",
    load: async () => plain((await import("./doctor.ts")).doctorCommand),
  },
  models: {
    summary: "get models for `npm start -- --model`, and see which there are",
    load: async () => plain((await import("./models.ts")).modelsCommand),
  },
  plan: {
    summary: "whether a deployment fits, how fast it can be, what it costs",
    load: async () => plain((await import("./plan.ts")).planCommand),
  },
  worker: {
    summary: "lend this machine to a group that another one leads",
    load: async () => plain((await import("./worker.ts")).workerCommand),
  },
  completion: {
    summary: "the completion of these commands for bash, zsh and fish",
    load: async () => plain((await import("./completion.ts")).completionCommand),
  },
};
