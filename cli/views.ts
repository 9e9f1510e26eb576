import { type ObservedData, type View, viewDataSchemas } from "../events/views.ts";
import { given } from "./command.ts";
import { askOperator } from "./operator.ts";

/** What a view shows of a stage. @throws CommandError */
export async function see<V extends View>(
  stage: string | undefined,
  view: V,
  fields: Record<string, unknown> = {},
): Promise<ObservedData[V]> {
  const { data } = await askOperator({ command: "observe", view, ...given(fields) }, stage);
  return viewDataSchemas[view].parse(data) as ObservedData[V];
}

/** One JSON object a line. */
export const jsonLines = (values: readonly unknown[]): string =>
  values.map((value) => `${JSON.stringify(value)}\n`).join("");
