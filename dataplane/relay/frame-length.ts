/**
 * Watches the bytes that a client sends over a WebSocket and calls `onTooLong` once, at the header of
 * the first frame whose payload is over `limitBytes`. The library `ws` limits whole messages only.
 * Frame layout: RFC 6455, section 5.2.
 *
 * It is either in a header, which it collects until the payload's length can be read, or in a
 * payload, which it skips.
 */
export function frameLengthWatch(
  limitBytes: number,
  onTooLong: () => void,
): (chunk: Buffer) => void {
  let header: Buffer = Buffer.alloc(0);
  let payloadLeft = 0;
  let tooLong = false;

  return (chunk) => {
    let rest = chunk;
    while (rest.length > 0 && !tooLong) {
      const skipped = Math.min(payloadLeft, rest.length);
      payloadLeft -= skipped;
      rest = rest.subarray(skipped);
      if (rest.length === 0) return;
      const known = header.length;
      const longest = Buffer.concat([header, rest.subarray(0, maxHeaderBytes - known)]);
      const frame = readHeader(longest);
      if (frame === undefined) {
        header = longest;
        return;
      }
      if (frame.payloadBytes > limitBytes) {
        tooLong = true;
        onTooLong();
        return;
      }
      header = Buffer.alloc(0);
      payloadLeft = frame.payloadBytes;
      rest = rest.subarray(frame.headerBytes - known);
    }
  };
}

const maxHeaderBytes = 14;

function readHeader(bytes: Buffer): { headerBytes: number; payloadBytes: number } | undefined {
  if (bytes.length < 2) return undefined;
  const second = bytes.readUInt8(1);
  const maskBytes = (second & 0x80) === 0 ? 0 : 4;
  const short = second & 0x7f;
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const headerBytes = 2 + lengthBytes + maskBytes;
  if (bytes.length < headerBytes) return undefined;
  if (lengthBytes === 0) return { headerBytes, payloadBytes: short };
  const payloadBytes = lengthBytes === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  return { headerBytes, payloadBytes };
}
