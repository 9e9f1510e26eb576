/**
 * How a client opens the socket: it names two subprotocols, `axon.v1` and `axon.auth.<credential>`,
 * where the credential is the base64url of its API key or token. Browsers cannot set headers, and a
 * query string would put the key into access logs.
 */
export const socketProtocol = "axon.v1";
export const socketAuthPrefix = "axon.auth.";
