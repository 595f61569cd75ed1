const ORIENTATION = 0x0112;

/** EXIF orientation 1..8 of a block that begins with its TIFF header; 1 where there is none. */
export function orientation(exif: Uint8Array | undefined): number {
  if (!exif || exif.length < 8) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = view.getUint16(0) === 0x4949;
  const first = view.getUint32(4, little);
  if (first + 2 > exif.length) return 1;
  const count = view.getUint16(first, little);
  for (let i = 0, at = first + 2; i < count && at + 12 <= exif.length; i++, at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** RGBA pixels as they are shown: turned and mirrored by an EXIF orientation. */
export function upright(
  data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number, turn: number,
): { data: Uint8ClampedArray<ArrayBuffer>; width: number; height: number } {
  if (turn === 1) return { data, width, height };
  const swap = turn >= 5;
  const [outWidth, outHeight] = swap ? [height, width] : [width, height];
  const from = new Uint32Array(data.buffer, data.byteOffset, width * height);
  const to = new Uint32Array(width * height);
  const flipX = [2, 3, 7, 8].includes(turn);
  const flipY = [3, 4, 6, 7].includes(turn);
  for (let y = 0, i = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++, i++) {
      const [column, row] = swap ? [y, x] : [x, y];
      to[i] = from[(flipY ? height - 1 - row : row) * width + (flipX ? width - 1 - column : column)];
    }
  }
  return { data: new Uint8ClampedArray(to.buffer), width: outWidth, height: outHeight };
}
