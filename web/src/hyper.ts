// Hyper-latents, step by step; codec/hyper_context.py says what each step does.

import { type Engine, Grid } from "./engine.js";
import { JndError } from "./error.js";
import { CLIPPED_SHIFT, Layer, SHIFT, parameters } from "./layer.js";
import { magnitudes } from "./magnitude.js";
import type { ModelFile } from "./model.js";
import { interpolateIntegers } from "./nodes.js";
import type { RangeDecoder } from "./range.js";

const SCALES = 24, PARTS = 8, Z_MAX = 127;
/** Rows down and columns to the right of a position, in the order of the network's inputs. */
const NEIGHBOURS = [[0, -1], [-1, -1], [-1, 0], [-1, 1]];

export class HyperDecoder {
  private readonly hidden: Layer;
  private readonly out: Layer;
  private readonly offset: Float32Array;
  private readonly magnitude = magnitudes();
  /** The fewest bits that a position takes: a bound on the size that a file may claim. */
  private readonly leastBits: number;
  private readonly channels: number;

  constructor(private readonly engine: Engine, model: ModelFile) {
    this.hidden = new Layer(engine, parameters(model, "hyper.hidden"));
    this.out = new Layer(engine, parameters(model, "hyper.out"));
    this.offset = model.floats("hyper.offset");
    this.channels = this.out.columns / 2;
    const most = model.array<Uint32Array>("z.frequency").reduce((a, b) => Math.max(a, b));
    this.leastBits = this.channels * (16 - Math.log2(most));
  }

  /** Hyper-latents (h, w, C) of the chunk z. */
  decode(range: RangeDecoder, data: Uint8Array, h: number, w: number, quality: number): Grid {
    if (h * w * this.leastBits > 8 * data.length + 64) {
      throw new JndError("The coded data is too short for the image's size: download the file again.");
    }
    const z = new Grid(this.engine, h, w, this.channels), offset = interpolateIntegers(this.offset, quality);
    range.begin("z", data);
    for (let step = 0; step < w + 2 * h - 2; step++) {
      const rows: number[] = [];
      for (let row = Math.max(0, Math.floor((step - w) / 2) + 1); row < Math.min(h, (step >> 1) + 1); row++) rows.push(row);
      const at = rows.map((row) => z.at(row, step - 2 * row));
      if (at.length) this.engine.scope(() => this.step(range, z, at, offset, quality >> 2));
    }
    range.end();
    return z;
  }

  /** Decodes the positions at the pointers `at`. */
  private step(range: RangeDecoder, z: Grid, at: number[], offset: Float32Array, level: number): void {
    const { engine, hidden, out, channels } = this, rows = at.length, around = NEIGHBOURS.length * channels;
    const inputs = new Float32Array(rows * (2 * around + 1));
    at.forEach((pointer, i) => {
      const to = inputs.subarray(i * (2 * around + 1));
      NEIGHBOURS.forEach(([down, right], n) => {
        engine.view(pointer + down * z.line + right * z.step, channels).forEach((value, channel) => {
          to[n * channels + channel + (value < 0 ? around : 0)] = this.magnitude[Math.min(Math.abs(value), this.magnitude.length - 1)];
        });
      });
      to[2 * around] = level;
    });
    const [features, sums] = [hidden, out].map((layer) => engine.floats(rows * layer.columns));
    hidden.run({ rows, from: engine.put(inputs), stride: 4 * (2 * around + 1), out: features, outStride: 4 * hidden.columns, activation: CLIPPED_SHIFT });
    out.run({ rows, from: features, stride: 4 * hidden.columns, out: sums, outStride: 4 * out.columns, activation: SHIFT });
    const values = engine.view(sums, rows * out.columns), tables = new Uint8Array(rows * channels), means = new Float32Array(tables.length);
    for (let i = 0; i < tables.length; i++) {
      const channel = i % channels, from = Math.floor(i / channels) * out.columns + channel;
      const scale = clip(values[from] + offset[channel], 0, SCALES - 1);
      const mean = clip(values[from + channels] + offset[channels + channel], -PARTS * Z_MAX, PARTS * Z_MAX);
      means[i] = Math.floor(mean / PARTS);
      tables[i] = PARTS * scale + mean - PARTS * means[i];
    }
    const symbols = engine.view(range.pass(engine.put(tables), tables.length), tables.length);
    at.forEach((pointer, i) => {
      const to = engine.view(pointer, channels);
      for (let c = 0, j = i * channels; c < channels; c++, j++) to[c] = clip(symbols[j] + means[j], -Z_MAX, Z_MAX);
    });
  }
}

function clip(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
