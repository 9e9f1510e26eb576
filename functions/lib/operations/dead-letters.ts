import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import * as z from "zod";

/** A queue and where its undeliverable messages go. */
export interface QueuePair {
  url: string;
  deadLetterUrl: string;
}

/** A message among the dead letters. */
export interface DeadLetter {
  messageId: string;
  /** Undefined where the body names none. */
  turnId: string | undefined;
  tenantId: string | undefined;
  /** Why it was put there; undefined when it was just received too often. */
  reason: string | undefined;
  /** How often it was received, looks at it included. */
  receives: number;
  ageMs: number;
}

/** For so long what was received is hidden from others; a command that is killed loses nothing. */
const hiddenSeconds = 60;
const mostAtOnce = 10;
/** A queue on AWS may answer with nothing while it has something, unless it is waited for. */
const waitSeconds = 1;

const namesSchema = z.looseObject({
  turnId: z.string().optional().catch(undefined),
  tenantId: z.string().optional().catch(undefined),
});

/**
 * Looks at all dead letters, and shows them to others again. Of a FIFO queue it sees the first ten of each
 * group, since what comes after waits for them.
 */
export async function listDeadLetters(sqs: SQSClient, queue: QueuePair): Promise<DeadLetter[]> {
  const messages = await receiveAll(sqs, queue);
  await release(sqs, queue, messages);
  return messages.map(deadLetterOf);
}

/**
 * Moves the dead letters back to their queue: each is sent, then deleted, so that one which is in both for
 * a moment is the worst that a crash can leave. Calls `moved` for each.
 * @param only the id of the one that is meant; all of them without it.
 */
export async function redriveDeadLetters(
  sqs: SQSClient,
  queue: QueuePair,
  moved: (letter: DeadLetter) => void,
  only?: string,
): Promise<void> {
  const isFifo = queue.url.endsWith(".fifo");
  for (;;) {
    const messages = await receiveAll(sqs, queue);
    const isMeant = ({ MessageId }: Message) => only === undefined || MessageId === only;
    // Those that are meant come first, and what is left at the end is shown to others again.
    const waiting = messages.toSorted(
      (one, other) => Number(isMeant(other)) - Number(isMeant(one)),
    );
    try {
      for (const message of waiting.filter(isMeant)) {
        await moveBack(sqs, queue, message, isFifo);
        waiting.shift();
        moved(deadLetterOf(message));
      }
    } finally {
      await release(sqs, queue, waiting);
    }
    // A job that is none comes back at once: another look would move it round and round.
    if (!isFifo || only !== undefined || messages.length === 0) return;
  }
}

/** Until there are no more. Each is hidden from then on, so none comes twice. */
async function receiveAll(sqs: SQSClient, { deadLetterUrl }: QueuePair): Promise<Message[]> {
  const all = new Map<string, Message>();
  for (;;) {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: deadLetterUrl,
        MaxNumberOfMessages: mostAtOnce,
        VisibilityTimeout: hiddenSeconds,
        WaitTimeSeconds: waitSeconds,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["All"],
      }),
    );
    const before = all.size;
    for (const message of Messages) all.set(message.MessageId ?? "", message);
    // Nothing new: the first ones are shown again already, there are so many.
    if (all.size === before) return [...all.values()];
  }
}

async function release(
  sqs: SQSClient,
  { deadLetterUrl }: QueuePair,
  messages: readonly Message[],
): Promise<void> {
  for (const { ReceiptHandle } of messages) {
    await sqs.send(
      new ChangeMessageVisibilityCommand({
        ...{ QueueUrl: deadLetterUrl, ReceiptHandle, VisibilityTimeout: 0 },
      }),
    );
  }
}

async function moveBack(
  sqs: SQSClient,
  { url, deadLetterUrl }: QueuePair,
  message: Message,
  isFifo: boolean,
): Promise<void> {
  const { MessageId = "", Body, ReceiptHandle, Attributes, MessageAttributes = {} } = message;
  const { reason: _, ...attributes } = MessageAttributes;
  await sqs.send(
    new SendMessageCommand({
      ...{ QueueUrl: url, MessageBody: Body, MessageAttributes: attributes },
      ...(isFifo && {
        MessageGroupId: Attributes?.MessageGroupId,
        // With its first id it would be taken for a repeat of itself, and dropped, for five minutes. With
        // this one a second redrive of the same dead letter is.
        MessageDeduplicationId: `redrive-${MessageId}`,
      }),
    }),
  );
  await sqs.send(new DeleteMessageCommand({ QueueUrl: deadLetterUrl, ReceiptHandle }));
}

function deadLetterOf({ MessageId, Body, Attributes, MessageAttributes }: Message): DeadLetter {
  const { turnId, tenantId } = namesIn(Body ?? "");
  return {
    ...{ messageId: MessageId ?? "", turnId, tenantId },
    reason: MessageAttributes?.["reason"]?.StringValue,
    receives: Number(Attributes?.ApproximateReceiveCount ?? 0),
    ageMs: Math.max(0, Date.now() - Number(Attributes?.SentTimestamp ?? Date.now())),
  };
}

/** What is no job may be anything. */
function namesIn(body: string): { turnId?: string | undefined; tenantId?: string | undefined } {
  try {
    return namesSchema.safeParse(JSON.parse(body)).data ?? {};
  } catch {
    return {};
  }
}
