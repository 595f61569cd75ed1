// What is shown of a file: upright PNGs, of a preview and of the whole.

import { readHeader, unpack } from "./container.js";
import { withinMemory } from "./error.js";
import type { Models } from "./models.js";
import { orientation, upright } from "./orientation.js";
import { png } from "./png.js";

export interface Picture {
  /** A PNG, upright. */
  blob: Blob;
  /** Pixels that the whole image takes, also for a preview. */
  width: number;
  height: number;
}

/** Decodes a file to a picture, and to one of 1/16 of its size before. */
export function picture(models: Models, data: Uint8Array, onPreview?: (preview: Picture) => void): Promise<Picture> {
  return withinMemory(() => draw(models, data, onPreview));
}

async function draw(models: Models, data: Uint8Array, onPreview?: (preview: Picture) => void): Promise<Picture> {
  const decoder = await models.decoder(readHeader(data).model);
  const { header, chunks } = unpack(data);
  const turn = orientation(chunks.exif);
  const [width, height] = turn >= 5 ? [header.height, header.width] : [header.width, header.height];
  const show = (pixels: Uint8ClampedArray<ArrayBuffer>, across: number, down: number): Picture => {
    const shown = upright(pixels, across, down, turn);
    return { blob: png(shown.data, shown.width, shown.height, chunks.icc), width, height };
  };
  const decoded = await decoder.decode(data, onPreview && ((small) => onPreview(show(small.data, small.width, small.height))));
  return show(decoded.data, decoded.width, decoded.height);
}
