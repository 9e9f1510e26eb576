/**
 * What a function's bundle leaves out, because Lambda's runtime for Node brings it. With the AWS SDK in it
 * the bundle of `chat` has 880 kB instead of 485; of that, 125 kB alone are ways to find credentials that no
 * function has. It takes as long to load either way. AWS's CDK does the same by default; the price is that
 * AWS chooses the SDK's version.
 */
export const runtimePackages = ["@aws-sdk/*"];
