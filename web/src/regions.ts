import type { Chunks, Header } from "./container.js";
import { JndError } from "./error.js";

const DAMAGED = "The file's map of regions is damaged: download the file again.";

/** Qualities of y in tenths: the header's, or one for each of the h x w blocks. */
export async function qualities(header: Header, chunks: Chunks, h: number, w: number): Promise<Int32Array> {
  const data = chunks.regions;
  if (!data) return Int32Array.of(header.quality);
  const count = data[0] + 1;
  if (data.length < 1 + 2 * count) throw new JndError(DAMAGED);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const palette = Int32Array.from({ length: count }, (_, i) => view.getUint16(1 + 2 * i, true));
  let indexes: Uint8Array;
  try {
    const stream = new Blob([data.subarray(1 + 2 * count) as BlobPart]).stream().pipeThrough(new DecompressionStream("deflate"));
    indexes = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new JndError(DAMAGED);
  }
  const good = indexes.length === h * w && indexes.every((index) => index < count) && palette.every((quality) => quality <= 1000);
  if (!good) throw new JndError(DAMAGED);
  return Int32Array.from(indexes, (index) => palette[index]);
}
