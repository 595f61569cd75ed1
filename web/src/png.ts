// PNG without compression: how pixels reach the browser's own machinery, which then applies their colour profile.

import { crc32 } from "./crc32.js";

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const STORED = 65535;

function chunk(name: string, ...parts: Uint8Array[]): Uint8Array[] {
  const head = new Uint8Array(8);
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  new DataView(head.buffer).setUint32(0, size);
  head.set(new TextEncoder().encode(name), 4);
  const tail = new Uint8Array(4);
  new DataView(tail.buffer).setUint32(0, crc32(head.subarray(4), ...parts));
  return [head, ...parts, tail];
}

/** A zlib stream of stored blocks. */
function stored(data: Uint8Array): Uint8Array {
  const blocks = Math.max(1, Math.ceil(data.length / STORED));
  const out = new Uint8Array(2 + 5 * blocks + data.length + 4);
  const view = new DataView(out.buffer);
  out.set([0x78, 1]);
  let at = 2;
  for (let i = 0; i < blocks; i++) {
    const part = data.subarray(i * STORED, (i + 1) * STORED);
    out[at] = i === blocks - 1 ? 1 : 0;
    view.setUint16(at + 1, part.length, true);
    view.setUint16(at + 3, ~part.length & 65535, true);
    out.set(part, at + 5);
    at += 5 + part.length;
  }
  let [a, b] = [1, 0];
  for (let i = 0; i < data.length; ) {
    // Sums of so many bytes stay below 2^31.
    for (const end = Math.min(i + 3800, data.length); i < end; i++) b += a += data[i];
    a %= 65521;
    b %= 65521;
  }
  view.setUint32(at, b * 65536 + a);
  return out;
}

/** A PNG file of RGBA pixels, with an ICC profile if there is one. */
export function png(data: Uint8ClampedArray, width: number, height: number, icc?: Uint8Array): Blob {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 6, 0, 0, 0], 8);
  const rows = new Uint8Array(height * (4 * width + 1));
  for (let y = 0; y < height; y++) rows.set(data.subarray(4 * width * y, 4 * width * (y + 1)), y * (4 * width + 1) + 1);
  const profile = icc ? chunk("iCCP", new TextEncoder().encode("icc\0\0"), stored(icc)) : [];
  const parts = [SIGNATURE, ...chunk("IHDR", header), ...profile, ...chunk("IDAT", stored(rows)), ...chunk("IEND")];
  return new Blob(parts as BlobPart[], { type: "image/png" });
}
