import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { ask, askOnAndOn } from "../../cli/ask.ts";
import { onInterrupt } from "../../cli/interrupts.ts";
import { eventually } from "../support/eventually.ts";

/** What the keyboard does to a command. */

function terminal(keys = "") {
  const [input, output] = [new PassThrough(), new PassThrough()];
  output.resume();
  input.write(keys);
  return { input, output, terminal: true };
}

describe("a question", () => {
  test.each<[string, string, string | undefined]>([
    ["is answered by a line", "yes\r", "yes"],
    ["is left by Ctrl-C", "ye\u0003", undefined],
    ["is left empty by Ctrl-D", "\u0004", ""],
  ])("%s", async (_, keys, answer) => {
    expect(await ask("Sure? ", terminal(keys))).toBe(answer);
  });
});

describe("questions on and on", () => {
  const answered: string[] = [];
  const answer = async (line: string) => {
    answered.push(line);
    await setImmediate();
    return true;
  };
  beforeEach(() => answered.splice(0));

  test("are all answered where the input has ended before the first answer", async () => {
    const { input, output } = terminal();
    input.end("one\ntwo\nthree");
    const ended = await askOnAndOn(answer, { input, output });
    expect(ended).toEqual({ isInterrupted: false });
    expect(answered).toEqual(["one", "two", "three"]);
  });

  test("end with an empty line, with Ctrl-D, and with Ctrl-C where nothing is being answered", async () => {
    expect(await askOnAndOn(answer, terminal("one\r\rtwo\r"))).toEqual({ isInterrupted: false });
    expect(await askOnAndOn(answer, terminal("two\r\u0004"))).toEqual({ isInterrupted: false });
    expect(await askOnAndOn(answer, terminal("\u0003"))).toEqual({ isInterrupted: true });
    expect(answered).toEqual(["one", "two"]);
  });

  test("go on after Ctrl-C has stopped an answer", async () => {
    const keyboard = terminal("long\r");
    let interrupts = 0;
    const slow = async (line: string) => {
      answered.push(line);
      if (line !== "long") return false;
      keyboard.input.write("\u0003");
      await eventually(() => interrupts === 1);
      keyboard.input.write("next\r");
      return true;
    };
    await askOnAndOn(slow, keyboard, () => interrupts++);
    expect(answered).toEqual(["long", "next"]);
  });
});

describe("Ctrl-C", () => {
  test("counts once, however many hand it on, and again when it is pressed again", () => {
    const source = new EventEmitter();
    let now = 0;
    let pressed = 0;
    const deaf = onInterrupt(() => pressed++, { source, now: () => now });
    for (now of [1_000, 1_005, 1_012]) source.emit("SIGINT");
    expect(pressed).toBe(1);
    now = 2_000;
    source.emit("SIGINT");
    expect(pressed).toBe(2);
    deaf();
    now = 3_000;
    source.emit("SIGINT");
    expect(pressed).toBe(2);
  });
});
