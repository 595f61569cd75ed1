import { JndError } from "./error.js";

/** Whether a chunk is a PNG of 16 bits a sample, of which browsers give 8. */
export function deep(data: Uint8Array): boolean {
  return data[0] === 0x89 && data[24] === 16;
}

/** RGBA samples of a chunk that is a PNG or a lossless WebP of 8 bits, as they stand in it. */
export async function lossless(data: Uint8Array, width: number, height: number, what: string): Promise<Uint8ClampedArray> {
  let bitmap: ImageBitmap;
  try {
    const blob = new Blob([data as BlobPart], { type: data[0] === 0x89 ? "image/png" : "image/webp" });
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new JndError(`The file's ${what} is damaged: download the file again.`);
  }
  if (bitmap.width !== width || bitmap.height !== height) {
    throw new JndError(`The file's ${what} is not of the image's size: have the file written again.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}
