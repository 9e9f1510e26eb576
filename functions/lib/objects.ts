import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import * as z from "zod";
import { AxonError } from "../../events/errors.ts";
import { awsClient } from "./aws-client.ts";
import { provider } from "./provider.ts";

/** One version of an object, as a notification names it. */
export interface ObjectVersion {
  bucket: string;
  key: string;
  /** Of a bucket that keeps versions. */
  versionId?: string | undefined;
  /** Of its content, without quotes. */
  eTag: string;
}

/**
 * Reads a small text.
 * @returns undefined where this version is there no more.
 * @throws AxonError invalid_field where it has more than `mostObjectBytes`.
 */
export type ReadObject = (version: ObjectVersion) => Promise<string | undefined>;

export const mostObjectBytes = 64 * 1024;

export const objects = provider(["readObject"], z.object({}), () => {
  return { readObject: s3Reader(new S3Client(awsClient)) };
});

/** What S3 says of a version that was overwritten or removed meanwhile. */
const gone = new Set(["NoSuchKey", "NoSuchVersion", "PreconditionFailed"]);

export function s3Reader(s3: S3Client): ReadObject {
  return async ({ bucket, key, versionId, eTag }) => {
    try {
      const { ContentLength = 0, Body } = await s3.send(
        new GetObjectCommand({
          ...{ Bucket: bucket, Key: key },
          ...(versionId === undefined ? { IfMatch: `"${eTag}"` } : { VersionId: versionId }),
        }),
      );
      if (ContentLength > mostObjectBytes) {
        // What is not read would keep the connection.
        await Body?.transformToWebStream().cancel();
        throw tooLarge(ContentLength);
      }
      return await Body?.transformToString();
    } catch (error) {
      if (error instanceof Error && gone.has(error.name)) return undefined;
      throw error;
    }
  };
}

export function tooLarge(bytes: number): AxonError {
  return new AxonError("invalid_field", `It has ${bytes} bytes; the most is ${mostObjectBytes}.`);
}
