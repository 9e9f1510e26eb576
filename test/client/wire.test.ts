import { expectTypeOf, test } from "vitest";
import type * as wire from "../../client/wire.ts";
import type * as frames from "../../events/frames.ts";

/** The client has types of its own, so that it needs no package: they are those of the schemas. */
test("the client's frames are those of the server's schemas", () => {
  expectTypeOf<wire.ChatFrame>().toEqualTypeOf<frames.ChatFrame>();
  expectTypeOf<wire.AcceptedFrame>().toEqualTypeOf<frames.AcceptedFrame>();
  expectTypeOf<wire.TokensFrame>().toEqualTypeOf<frames.TokensFrame>();
  expectTypeOf<wire.RewindFrame>().toEqualTypeOf<frames.RewindFrame>();
  expectTypeOf<wire.DoneFrame>().toEqualTypeOf<frames.DoneFrame>();
  // A client takes codes that it does not know.
  expectTypeOf<Omit<wire.ErrorFrame, "code">>().toEqualTypeOf<Omit<frames.ErrorFrame, "code">>();
});
