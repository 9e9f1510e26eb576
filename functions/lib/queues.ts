import { SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import { awsClient } from "./aws-client.ts";
import { provider } from "./provider.ts";

/** Which queue a job goes to is said by the catalog of models. */
export const queues = provider(["sqs"], z.object({}), () => ({ sqs: new SQSClient(awsClient) }));
