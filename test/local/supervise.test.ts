import { expect, test } from "vitest";
import { supervise } from "../../local/supervise.ts";
import { eventually } from "../support/eventually.ts";

function mortal(id: number) {
  const { promise: died, resolve: die } = Promise.withResolvers<string>();
  const part = {
    id,
    died,
    die: () => die("exited with SIGKILL"),
    stopped: false,
    async stop() {
      part.stopped = true;
    },
  };
  return part;
}

test("a part that dies is started again, and the one that runs now is known", async () => {
  let starts = 0;
  const notes: string[] = [];
  const restarted: number[] = [];
  const supervised = await supervise({
    name: "relay",
    start: async () => mortal(++starts),
    note: (line) => notes.push(line),
    restarted: ({ id }) => restarted.push(id),
  });
  const first = supervised.current();
  first.die();
  const second = await eventually(() => supervised.current() !== first && supervised.current());
  expect(second.id).toBe(2);
  expect(notes).toEqual(["relay exited with SIGKILL; it is started again in 200 ms"]);
  expect(restarted).toEqual([2]);
  await supervised.stop();
  expect([first.stopped, second.stopped]).toEqual([false, true]);
});

test("a start that fails is tried again", async () => {
  let starts = 0;
  const notes: string[] = [];
  const supervised = await supervise({
    name: "group",
    start: async () => {
      if (++starts === 2) throw new Error("port taken");
      return mortal(starts);
    },
    note: (line) => notes.push(line),
  });
  supervised.current().die();
  await eventually(() => supervised.current().id === 3);
  expect(notes[1]).toBe("group does not start again: port taken");
  await supervised.stop();
});

test("the first start's failure is the caller's", async () => {
  const start = () => Promise.reject(new Error("no such model"));
  await expect(supervise({ name: "group", start, note: () => {} })).rejects.toThrow(
    "no such model",
  );
});

test("a part that dies while it is stopped, or just before, stays dead", async () => {
  let starts = 0;
  const supervised = await supervise({
    name: "relay",
    start: async () => mortal(++starts),
    note: () => undefined,
  });
  supervised.current().die();
  await supervised.stop();
  expect(starts).toBe(1);
});
