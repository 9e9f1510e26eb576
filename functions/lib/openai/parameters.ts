import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import type { ChatMessage } from "../../../events/jobs.ts";
import { requestedSamplingSchema } from "../../../events/sampling.ts";
import { contextBytes, jsonBytes } from "../turns/context.ts";
import type { Question } from "../turns/request-turn.ts";

/**
 * The parameters of OpenAI's API, in the words of this project. What is not known here is refused by its
 * name: an answer that silently does without is worse. Values that ask for nothing (`n: 1`, a penalty of 0)
 * are taken, since programs send them as a matter of course.
 */

/** A request, understood. */
export interface Asked {
  question: Omit<Question, "requestId">;
  stream: boolean;
  includeUsage: boolean;
}

/** A parameter that is refused, with the code that OpenAI has for it. */
export class ParameterRefused extends AxonError {
  readonly parameterCode: string;

  constructor(parameterCode: string, parameter: string, problem: string, isUnknownField = false) {
    super("invalid_field", `${parameter}: ${problem}.`, { field: parameter, isUnknownField });
    this.parameterCode = parameterCode;
  }
}

const only = <const Value extends string | number | boolean>(value: Value) =>
  z
    .literal(value, { message: `nothing but ${JSON.stringify(value)} is supported here` })
    .optional();

const sampling = requestedSamplingSchema.shape;

const common = {
  model: z.string().min(1).max(100).optional(),
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({ include_usage: z.boolean().default(false), include_obfuscation: only(false) })
    .optional(),
  max_tokens: sampling.maxTokens,
  temperature: sampling.temperature,
  top_p: sampling.topP,
  top_k: sampling.topK,
  min_p: sampling.minP,
  repetition_penalty: sampling.repetitionPenalty,
  stop: z
    .union([z.string().transform((text) => [text]), z.array(z.string())])
    .pipe(sampling.stop.unwrap())
    .optional(),
  seed: sampling.seed,
  n: only(1),
  presence_penalty: only(0),
  frequency_penalty: only(0),
  // Who it is for, by the caller's own books. It is not kept: nobody here would read it.
  user: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
};

const contentSchema = z.union(
  [
    z.string(),
    z
      .array(z.strictObject({ type: z.literal("text"), text: z.string() }))
      .transform((parts) => parts.map(({ text }) => text).join("")),
  ],
  { message: "must be text, or parts of the type text" },
);

const messageSchema = z
  .strictObject({
    role: z.enum(["system", "developer", "user", "assistant"], {
      message: "must be system, developer, user or assistant",
    }),
    content: contentSchema,
  })
  .transform(
    ({ role, content }): ChatMessage => ({ role: role === "developer" ? "system" : role, content }),
  );

const chatSchema = z.strictObject({
  ...common,
  messages: z.array(z.preprocess(withoutNulls, messageSchema)).min(1),
  max_completion_tokens: sampling.maxTokens,
  logprobs: only(false),
  store: only(false),
  response_format: z.strictObject({ type: only("text") }).optional(),
});

const completionSchema = z.strictObject({
  ...common,
  prompt: z.union(
    [
      z.string(),
      z
        .array(z.string())
        .length(1)
        .transform(([text = ""]) => text),
    ],
    {
      message:
        "must be one text. Lists of tokens, and several prompts at once, are not supported here",
    },
  ),
  echo: only(false),
  best_of: only(1),
});

/** @throws ParameterRefused, or AxonError prompt_too_long */
export function askedInChat(body: unknown): Asked {
  const given = parsed(chatSchema, body);
  const { messages, max_completion_tokens: most } = given;
  const prompt = messages.at(-1);
  if (prompt?.role !== "user" || prompt.content.trim() === "") {
    const problem = "the last message must be the user's, and not empty";
    throw new ParameterRefused("invalid_value", "messages", problem);
  }
  const bytes = jsonBytes(messages);
  if (bytes > contextBytes) throw tooLong("messages", bytes);
  const question = { prompt: prompt.content, context: messages.slice(0, -1) };
  return asked({ ...given, max_tokens: most ?? given.max_tokens }, question);
}

/** @throws ParameterRefused, or AxonError prompt_too_long */
export function askedToComplete(body: unknown): Asked {
  const given = parsed(completionSchema, body);
  const { prompt } = given;
  if (prompt === "") throw new ParameterRefused("invalid_value", "prompt", "must not be empty");
  const bytes = jsonBytes(prompt);
  if (bytes > contextBytes) throw tooLong("prompt", bytes);
  return asked(given, { prompt, promptFormat: "raw" });
}

const tooLong = (field: string, bytes: number): AxonError =>
  new AxonError(
    "prompt_too_long",
    `${field}: ${bytes} bytes of JSON are too many; there is room for ${contextBytes}. Send less.`,
    { field },
  );

function asked(
  given: z.output<z.ZodObject<typeof common>>,
  question: Pick<Question, "prompt" | "context" | "promptFormat">,
): Asked {
  return {
    question: {
      ...question,
      origin: "api",
      model: given.model,
      sampling: {
        maxTokens: given.max_tokens,
        temperature: given.temperature,
        topP: given.top_p,
        topK: given.top_k,
        minP: given.min_p,
        repetitionPenalty: given.repetition_penalty,
        stop: given.stop,
        seed: given.seed,
      },
    },
    stream: given.stream,
    includeUsage: given.stream_options?.include_usage ?? false,
  };
}

/** In this API null is the same as leaving a parameter out. */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, given]) => given !== null));
}

function parsed<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const result = schema.safeParse(withoutNulls(body));
  if (result.success) return result.data;
  throw refusalOf(result.error);
}

function refusalOf({ issues: [issue] }: z.ZodError): ParameterRefused {
  if (issue === undefined) return new ParameterRefused("invalid_value", "body", "is not valid");
  if (issue.code === "unrecognized_keys") {
    const name = pathOf([...issue.path, issue.keys[0] ?? ""]);
    return new ParameterRefused(
      "unsupported_parameter",
      name,
      "is not supported here: leave it out",
      true,
    );
  }
  const name = pathOf(issue.path);
  if (name === "") {
    return new ParameterRefused("invalid_value", "body", "must be a JSON object");
  }
  const code = issue.code === "invalid_value" ? "unsupported_value" : "invalid_value";
  return new ParameterRefused(code, name, issue.message);
}

/** As OpenAI names what is inside of a parameter: messages[0].content. An unknown name may be of any length. */
function pathOf(path: readonly PropertyKey[]): string {
  const names = path.map((key, i) => {
    if (typeof key === "number") return `[${key}]`;
    return i === 0 ? String(key) : `.${String(key)}`;
  });
  return names.join("").slice(0, 100);
}
