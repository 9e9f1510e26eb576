/**
 * What a function's bundle leaves out, because Lambda's runtime for Node brings it. With the AWS SDK in it
 * the bundle of `chat` has 820 kB instead of 425; of that, 125 kB alone are ways to find credentials that no
 * function has. It takes as long to load either way. AWS's CDK does the same by default; the price is that
 * AWS chooses the SDK's version.
 */
const runtimePackages = ["@aws-sdk/*"];

/** What pg loads for its native client, which nobody asks for: 9 kB. */
const unused = ["./native"];

/** Imports that esbuild leaves as they are in a function's bundle. */
export const externals = [...runtimePackages, ...unused];
