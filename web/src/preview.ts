// A picture of 1/16 of the size from the first channel group: block means of the linear synthesis, see codec/preview.py.

import { type Engine, type Grid } from "./engine.js";
import type { ModelFile } from "./model.js";
import { interpolate } from "./nodes.js";

export interface Small {
  width: number;
  height: number;
  /** RGBA. */
  data: Uint8ClampedArray<ArrayBuffer>;
}

export class Previewer {
  /** (3, 3, K, 27): by place of the block (first, inner, last row; column), what a latent adds to the 3 x 3 blocks around. */
  private readonly kernels: Float32Array;
  private readonly logInverseGain: Float32Array;
  /** Of the first group. */
  private readonly channels: number;

  constructor(private readonly engine: Engine, model: ModelFile) {
    this.kernels = model.floats("preview.kernels");
    this.channels = model.shape("preview.kernels")[2];
    this.logInverseGain = model.floats("log_inverse_gain");
  }

  private gains(quality: number): Float32Array {
    return interpolate(this.logInverseGain, quality).map(Math.exp);
  }

  /** Of gained latents, the first group of which is decoded, cut to an image of `width` x `height` pixels. */
  draw(y: Grid, quality: Int32Array, width: number, height: number): Small {
    const { h, w } = y, k = this.channels;
    const sums = new Float32Array((h + 2) * (w + 2) * 3);
    const place = (index: number, length: number) => (index === 0 ? 0 : index === length - 1 ? 2 : 1);
    let gains = this.gains(quality[0]);
    for (let row = 0; row < h; row++) {
      for (let column = 0; column < w; column++) {
        if (quality.length > 1) gains = this.gains(quality[row * w + column]);
        const latents = this.engine.view(y.at(row, column), k);
        const kernel = (3 * place(row, h) + place(column, w)) * k * 27;
        for (let channel = 0; channel < k; channel++) {
          const value = latents[channel] * gains[channel];
          const from = kernel + channel * 27;
          for (let i = 0; i < 3; i++) {
            const to = ((row + i) * (w + 2) + column) * 3;
            for (let j = 0; j < 9; j++) sums[to + j] += value * this.kernels[from + 9 * i + j];
          }
        }
      }
    }
    const [columns, rows] = [Math.ceil(width / 16), Math.ceil(height / 16)];
    const data = new Uint8ClampedArray(4 * columns * rows);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const from = ((row + 1) * (w + 2) + column + 1) * 3;
        for (let c = 0; c < 3; c++) data[4 * (row * columns + column) + c] = 255 * (sums[from + c] + 0.5);
        data[4 * (row * columns + column) + 3] = 255;
      }
    }
    return { width: columns, height: rows, data };
  }
}
