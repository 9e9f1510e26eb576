import { describe, expect, test } from "vitest";
import { upcast } from "../../../events/event-catalog.ts";
import { type RolloutCommand, rollout } from "../../../events/rollout.ts";
import type { RolloutEvent } from "../../../events/rollout-events.ts";
import { scaleSchema } from "../../../events/rollout-request.ts";
import { scenarios } from "../scenario.ts";
import * as told from "./histories.ts";

const { given } = scenarios(rollout);
const following = (...commands: RolloutCommand[]) => given(...told.history(commands));
const { model } = told;

const sleepy = scaleSchema.parse({ min: 0, max: 2, zeroAfterMs: 60_000 });
const adoptSleepy = { ...told.adopt, scale: sleepy } as RolloutCommand;
const wake = (revision = "guide-1"): RolloutCommand => ({
  ...{ type: "WakeRevision", at: 900, model, revision },
});

describe("WakeRevision", () => {
  const added: RolloutEvent = {
    ...{ type: "GroupAdded", version: 1, at: 900, model, revision: "guide-1" },
    ...{ groupId: "guide-1-1", reason: "the first turn after a rest" },
  };
  const asleep = [adoptSleepy, told.releaseGroup(500, "guide-1-0")];

  test("adds a group to a revision that has none which stays", () => {
    following(...asleep)
      .when(wake())
      .then(added);
    following(...asleep, told.removeGroup(600, "guide-1-0"))
      .when(wake())
      .then(added);
  });

  test("says nothing again, nor where a group is there", () => {
    following(...asleep, wake())
      .when(wake())
      .thenNothing();
    following(adoptSleepy).when(wake()).thenNothing();
  });

  test("says nothing of a revision that does not serve, or whose groups fail", () => {
    given().when(wake()).thenNothing();
    following(...asleep)
      .when(wake("guide-2"))
      .thenNothing();
    following(...told.toForming)
      .when(wake("guide-2"))
      .thenNothing();
    following(adoptSleepy, told.removeGroup(600, "guide-1-0", true))
      .when(wake())
      .thenNothing();
    following(...told.paths["out of service"])
      .when(wake())
      .thenNothing();
  });
});

describe("ScaleRevision", () => {
  const scaling = (change: object, revision?: string): RolloutCommand => ({
    ...{ type: "ScaleRevision", at: 900, model, revision, change, by: "ada", reason: "a fair" },
  });

  test("changes what is named, of the revision that serves, and nothing else", () => {
    const scale = { ...told.scale, max: 5, target: { ...told.scale.target, busySlots: 0.5 } };
    const change = { max: 5, target: { busySlots: 0.5 } };
    following(told.adopt)
      .when(scaling(change))
      .then({
        ...{ type: "RevisionScaled", version: 1, at: 900, model, revision: "guide-1", scale },
        ...{ by: "ada", reason: "a fair" },
      });
    const state = told.stateAfter(told.adopt, scaling(change));
    expect(state.revisions["guide-1"]?.scale).toEqual(scale);
  });

  test("of a revision that is being rolled out it counts for its next step, too", () => {
    const { current, revisions } = told.stateAfter(
      ...told.toCanary,
      scaling({ max: 4, min: 2 }, "guide-2"),
    );
    expect(current?.request.scale).toMatchObject({ min: 2, max: 4 });
    expect(revisions["guide-2"]?.scale).toEqual(current?.request.scale);
    expect(revisions["guide-1"]?.scale).toEqual(told.scale);
  });

  test("is an event that the log can be read with again", () => {
    const [event] = told.history([told.adopt, scaling({ max: 3 })]).slice(-1);
    expect(upcast(JSON.parse(JSON.stringify(event)))).toEqual(event);
  });

  test("says nothing where all is so already", () => {
    following(told.adopt)
      .when(scaling({ max: told.scale.max }))
      .thenNothing();
  });

  test("is refused where it is no scale, or nothing serves", () => {
    following(told.adopt)
      .when(scaling({ min: 3 }))
      .thenRefused("invalid_field", "min");
    following(told.adopt)
      .when(scaling({ zeroAfterMs: 60_000 }))
      .thenRefused("invalid_field", "min");
    following(told.adopt)
      .when(scaling({ max: 3 }, "guide-2"))
      .thenRefused("rollout_not_found", "revision");
    given()
      .when(scaling({ max: 3 }))
      .thenRefused("rollout_not_found", "revision");
  });
});
