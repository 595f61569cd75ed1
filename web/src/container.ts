// The .jnd container; docs/format.md is normative.

import { crc32 } from "./crc32.js";
import { JndError } from "./error.js";

export const VERSION = 2;
const HEADER_SIZE = 32;
const ENTRY_SIZE = 9;
const MAX_PIXELS = 1 << 28;
const TAGS = {
  1: "z", 2: "y", 3: "icc", 4: "exif", 5: "alpha", 6: "regions", 7: "note", 8: "residual", 9: "xmp", 10: "density", 11: "dicom",
} as const;
const AGAIN = "download the file again.";

export type ChunkName = (typeof TAGS)[keyof typeof TAGS];

export interface Header {
  /** Hash of the model that wrote the file, 16 hexadecimal digits. */
  model: string;
  width: number;
  height: number;
  /** In tenths, 0 to 1000. */
  quality: number;
  passes: number;
  bitDepth: number;
  grey: boolean;
}

export type Chunks = Partial<Record<ChunkName, Uint8Array>> & { z: Uint8Array; y: Uint8Array };

/** Header of a file of which at least the first 32 bytes are there. */
export function readHeader(data: Uint8Array): Header {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < 4 || view.getUint32(0) !== 0x4a4e441a) throw new JndError("This is no .jnd file.");
  if (data.length < HEADER_SIZE) throw new JndError(`The file ends inside its header: ${AGAIN}`);
  if (crc32(data.subarray(0, 28)) !== view.getUint32(28, true)) throw new JndError(`The file's header is damaged: ${AGAIN}`);
  const [version, coder, passes] = data.subarray(4, 7);
  const [bitDepth, flags] = data.subarray(26, 28);
  if (version < VERSION) throw new JndError(`The file is of the older format ${version}: encode the image anew.`);
  const newer = version > VERSION || coder > 1 || bitDepth < 8 || bitDepth > 16 || flags > 1 || passes === 0;
  if (newer) throw new JndError(`The file is of a newer format (version ${version}): update jnd-decoder.`);
  if (coder === 1) throw new JndError("The file is coded for TensorFlow: transcode it with `jnd-jax transcode --coder constriction`.");
  const [width, height] = [view.getUint32(16, true), view.getUint32(20, true)];
  const quality = view.getUint16(24, true);
  const sides = [width, height].every((side) => side >= 1 && side <= 65535);
  if (!sides || width * height > MAX_PIXELS || quality > 1000) throw new JndError("The file declares a size or a quality that no file has.");
  const model = Array.from(data.subarray(8, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { model, width, height, quality, passes, bitDepth, grey: flags === 1 };
}

/** Header and chunks of a file; every byte of it has been checked. */
export function unpack(data: Uint8Array): { header: Header; chunks: Chunks } {
  const header = readHeader(data);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const tableEnd = HEADER_SIZE + ENTRY_SIZE * data[7];
  if (data.length < tableEnd + 4) throw new JndError(`The file ends inside its chunk table: ${AGAIN}`);
  if (crc32(data.subarray(HEADER_SIZE, tableEnd)) !== view.getUint32(tableEnd, true)) {
    throw new JndError(`The file's chunk table is damaged: ${AGAIN}`);
  }
  const chunks: Partial<Record<ChunkName, Uint8Array>> = {};
  let start = tableEnd + 4;
  let last = 0;
  for (let at = HEADER_SIZE; at < tableEnd; at += ENTRY_SIZE) {
    const name = TAGS[data[at] as keyof typeof TAGS];
    if (!name) throw new JndError(`The file holds a chunk of the unknown kind ${data[at]}: update jnd-decoder.`);
    if (data[at] <= last) throw new JndError("The file's chunk table is out of order: have the file written again.");
    const size = view.getUint32(at + 1, true);
    if (start + size > data.length) throw new JndError(`The file ends after ${data.length} bytes, inside its chunk ${name}: ${AGAIN}`);
    const chunk = data.subarray(start, start + size);
    if (crc32(chunk) !== view.getUint32(at + 5, true)) throw new JndError(`The file's chunk ${name} is damaged: ${AGAIN}`);
    chunks[name] = chunk;
    start += size;
    last = data[at];
  }
  if (start < data.length) throw new JndError(`${data.length - start} bytes follow the end of the file: ${AGAIN}`);
  if (!chunks.z || !chunks.y) throw new JndError("The file lacks its chunk z or y: have the file written again.");
  return { header, chunks: chunks as Chunks };
}
