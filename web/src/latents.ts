// The passes of y: channel groups, each in two halves of a checkerboard (codec/hyper.py says what each step does). All
// arithmetic is in the ONNX graphs `features` and `pass-N`; this module moves arrays between them and the range decoder.

import * as ort from "onnxruntime-web/wasm";
import type { RangeDecoder } from "./range.js";

export interface Latents {
  /** (h, w, channels) gained latents of the groups decoded so far. */
  y: Float32Array;
  /** (h, w, channels) residual symbols of the same. */
  symbols: Float32Array;
  channels: number;
}

interface Half {
  symbols: Float32Array;
  y: Float32Array;
}

type Tensors = Record<string, ort.Tensor>;

/** The groups before and one more, whose halves are (h/2, w/2, 2, size): block (2i, 2j), (2i+1, 2j+1), and the others. */
function join(before: Latents, pair: Half[], size: number, h: number, w: number): Latents {
  const channels = before.channels + size;
  const merge = (part: "symbols" | "y"): Float32Array => {
    const out = new Float32Array(h * w * channels);
    const old = before[part];
    for (let row = 0; row < h; row++) {
      for (let column = 0; column < w; column++) {
        const block = row * w + column;
        const cell = 2 * ((row >> 1) * (w >> 1) + (column >> 1)) + (row & 1);
        const from = cell * size;
        if (before.channels) out.set(old.subarray(block * before.channels, (block + 1) * before.channels), block * channels);
        out.set(pair[(row + column) & 1][part].subarray(from, from + size), block * channels + before.channels);
      }
    }
    return out;
  };
  return { symbols: merge("symbols"), y: merge("y"), channels };
}

/** Both halves (h/2, w/2, 2) of (h, w) qualities by block. */
function halves(quality: Int32Array, h: number, w: number): Int32Array[] {
  const out = [new Int32Array((h * w) / 2), new Int32Array((h * w) / 2)];
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      out[(row + column) & 1][2 * ((row >> 1) * (w >> 1) + (column >> 1)) + (row & 1)] = quality[row * w + column];
    }
  }
  return out;
}

async function run(session: ort.InferenceSession, given: Tensors): Promise<Tensors> {
  const feeds = Object.fromEntries(session.inputNames.map((name) => [name, given[name]]));
  return (await session.run(feeds)) as Tensors;
}

export class LatentDecoder {
  /** `features` and the passes in their order. */
  constructor(private readonly features: ort.InferenceSession, private readonly passes: ort.InferenceSession[]) {}

  get count(): number {
    return this.passes.length;
  }

  /**
   * Latents of a file.
   *
   * @param range decoder that stands at the beginning of y
   * @param z (h/4, w/4, C) hyper-latents
   * @param quality 0..1000, one for all or one for each of the h x w blocks
   * @param onGroup called after each group with all that is decoded
   */
  async decode(
    range: RangeDecoder, z: Int32Array, h: number, w: number, quality: Int32Array, onGroup: (latents: Latents, group: number) => void,
  ): Promise<Latents> {
    const shared = await run(this.features, { z: new ort.Tensor("int32", z, [1, h / 4, w / 4, range.zChannels]) });
    const qualities = quality.length === 1
      ? [0, 1].map(() => new ort.Tensor("int32", quality, [1, 1, 1, 1]))
      : halves(quality, h, w).map((half) => new ort.Tensor("int32", half, [1, h / 2, w / 2, 2]));
    let latents: Latents = { y: new Float32Array(0), symbols: new Float32Array(0), channels: 0 };
    for (let group = 0; 2 * group < this.passes.length; group++) {
      const whole = [1, h, w, latents.channels];
      let given: Tensors = { ...shared };
      if (group) {
        given.symbols = new ort.Tensor("float32", latents.symbols, whole);
        given.y = new ort.Tensor("float32", latents.y, whole);
      }
      const pair: Half[] = [];
      let size = 0;
      for (const half of [0, 1]) {
        const out = await run(this.passes[2 * group + half], { ...given, quality: qualities[half] });
        const symbols = range.pass(out.indexes.data as Uint8Array);
        const y = (out.means.data as Float32Array).slice();
        for (let i = 0; i < y.length; i++) y[i] += symbols[i];
        pair.push({ symbols, y });
        const shape = out.means.dims;
        size = shape[4];
        given = { ...given, ...out, symbols: new ort.Tensor("float32", symbols, shape), y: new ort.Tensor("float32", y, shape) };
      }
      latents = join(latents, pair, size, h, w);
      onGroup(latents, group);
    }
    return latents;
  }
}
