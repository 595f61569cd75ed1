// The .jnd container; docs/format.md is normative.

import { crc32 } from "./crc32.js";
import { JndError } from "./error.js";

export const VERSION = 3;
const HEADER_SIZE = 22;
const ENTRY_SIZE = 5;
const CRC_SIZE = 4;
const MAX_PIXELS = 1 << 28;
const TAGS = {
  1: "z", 2: "y", 3: "icc", 4: "exif", 5: "alpha", 6: "regions", 7: "note", 8: "residual", 9: "xmp", 10: "density", 11: "dicom",
} as const;
const [GREY, TFC] = [1, 2]; // bits of the flags
const AGAIN = "download the file again.";
const CUT = `The file ends inside its head: ${AGAIN}`;
const DAMAGED = `The file's head is damaged: ${AGAIN}`;

export type ChunkName = (typeof TAGS)[keyof typeof TAGS];

export interface Header {
  /** Hash of the model that wrote the file, 16 hexadecimal digits. */
  model: string;
  width: number;
  height: number;
  /** In tenths, 0 to 1000. */
  quality: number;
  bitDepth: number;
  grey: boolean;
}

export type Chunks = Partial<Record<ChunkName, Uint8Array>> & { z: Uint8Array; y: Uint8Array };

/** A chunk, and what its CRC-32, which stands behind it, covers from. */
interface Entry {
  tag: number;
  covered: number;
  start: number;
  end: number;
}

/** Header of a file of which at least the head is there: header, chunk table and z. */
export function readHeader(data: Uint8Array): Header {
  return readHead(data).header;
}

/** Header and chunks of a file; every byte of it has been checked. */
export function unpack(data: Uint8Array): { header: Header; chunks: Chunks } {
  const { header, entries } = readHead(data);
  const chunks: Partial<Record<ChunkName, Uint8Array>> = {};
  let last = 0;
  for (const { tag, covered, start, end } of entries) {
    const name = TAGS[tag as keyof typeof TAGS];
    if (!name) throw new JndError(`The file holds a chunk of the unknown kind ${tag}: update jnd-decoder.`);
    if (tag <= last) throw new JndError("The file's chunk table is out of order: have the file written again.");
    if (end + CRC_SIZE > data.length) throw new JndError(`The file ends after ${data.length} bytes, inside its chunk ${name}: ${AGAIN}`);
    if (!intact(data, covered, end)) throw new JndError(`The file's chunk ${name} is damaged: ${AGAIN}`);
    chunks[name] = data.subarray(start, end);
    last = tag;
  }
  const size = entries[entries.length - 1].end + CRC_SIZE;
  if (size < data.length) throw new JndError(`${data.length - size} bytes follow the end of the file: ${AGAIN}`);
  if (!chunks.z || !chunks.y) throw new JndError("The file lacks its chunk z or y: have the file written again.");
  return { header, chunks: chunks as Chunks };
}

function readHead(data: Uint8Array): { header: Header; entries: Entry[] } {
  const view = viewOf(data);
  if (data.length < 4 || view.getUint32(0) !== 0x4a4e441a) throw new JndError("This is no .jnd file.");
  if (data.length < HEADER_SIZE) throw new JndError(CUT);
  const [version, count, bitDepth, flags] = data.subarray(4, 8);
  if (version < VERSION) throw new JndError(`The file is of the older format ${version}: encode the image anew.`);
  const newer = `The file is of a newer format (version ${version}): update jnd-decoder, or, if it is damaged, ${AGAIN}`;
  if (version > VERSION) throw new JndError(newer);
  const entries = readTable(data, count);
  if (bitDepth < 8 || bitDepth > 16 || flags > (GREY | TFC)) throw new JndError(newer);
  if (flags & TFC) throw new JndError("The file is coded for TensorFlow: transcode it with `jnd-jax transcode --coder constriction`.");
  const [width, height, quality] = [16, 18, 20].map((offset) => view.getUint16(offset, true));
  if (!width || !height || width * height > MAX_PIXELS || quality > 1000) throw new JndError("The file declares a size or a quality that no file has.");
  const model = Array.from(data.subarray(8, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { header: { model, width, height, quality, bitDepth, grey: (flags & GREY) !== 0 }, entries };
}

/** The entries of the chunk table, unchecked but for the CRC-32 of the head. */
function readTable(data: Uint8Array, count: number): Entry[] {
  if (count < 2 || count > Object.keys(TAGS).length) throw new JndError(DAMAGED);
  let start = HEADER_SIZE + ENTRY_SIZE * count;
  if (data.length < start) throw new JndError(CUT);
  const view = viewOf(data);
  const entries: Entry[] = [];
  for (let at = HEADER_SIZE; entries.length < count; at += ENTRY_SIZE) {
    const end = start + view.getUint32(at + 1, true);
    entries.push({ tag: data[at], covered: entries.length ? start : 0, start, end });
    start = end + CRC_SIZE;
  }
  const headEnd = entries[0].end;
  if (data.length < headEnd + CRC_SIZE) throw new JndError(CUT);
  if (!intact(data, 0, headEnd)) throw new JndError(DAMAGED);
  return entries;
}

/** Whether the CRC-32 at `end` is that of the bytes from `start` on; it must be there. */
function intact(data: Uint8Array, start: number, end: number): boolean {
  return crc32(data.subarray(start, end)) === viewOf(data).getUint32(end, true);
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}
