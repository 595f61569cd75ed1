// Range-coded latents to integers, by assembly/range.ts.

import { Grid, type Engine } from "./engine.js";
import { JndError } from "./error.js";
import type { ModelFile } from "./model.js";
import { nearestNode } from "./nodes.js";

const Z_MAX = 127;
const SCALE_LEVELS = 64;
const DAMAGED = "The coded data is damaged: download the file again.";

/** constriction's 24-bit cumulative frequencies of integer frequencies that sum to 2^16 (`Categorical`, `perfect=False`). */
function cumulative(frequencies: Uint32Array): Uint32Array {
  const n = frequencies.length;
  const out = new Uint32Array(n + 1);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    out[i] = Math.floor((sum * (2 ** 24 - n)) / 65536) + i;
    sum += frequencies[i];
  }
  out[n] = 2 ** 24;
  return out;
}

/** Decodes the chunks z and y with the tables of one model. */
export class RangeDecoder {
  private readonly zFrequency: Uint32Array;
  private readonly zChannels: number;
  private readonly tables: number;
  private readonly halfWidths: number;
  private readonly bytes: number;

  constructor(private readonly engine: Engine, model: ModelFile) {
    this.zFrequency = model.array("z.frequency");
    this.zChannels = model.shape("z.frequency")[1];
    const frequency: Uint32Array = model.array("y.frequency");
    const halfWidth: Int32Array = model.array("y.half_width");
    const pointers = new Uint32Array(SCALE_LEVELS);
    let at = 0;
    halfWidth.forEach((half, level) => {
      pointers[level] = engine.put(cumulative(frequency.subarray(at, at + 2 * half + 2)));
      at += 2 * half + 2;
    });
    this.tables = engine.put(pointers);
    this.halfWidths = engine.put(halfWidth);
    this.bytes = engine.put(cumulative(new Uint32Array(256).fill(256)));
  }

  private begin(data: Uint8Array): void {
    if (data.length % 4) throw new JndError(DAMAGED);
    this.engine.kernels.start(this.engine.put(data), data.length / 4);
  }

  /** Hyper-latents (h, w, C) of the chunk z. */
  z(data: Uint8Array, h: number, w: number, quality: number): Grid {
    const { kernels } = this.engine, node = nearestNode(quality), size = 2 * Z_MAX + 1;
    this.check(data.length, h * w, node, size);
    const out = new Grid(this.engine, h, w, this.zChannels);
    this.begin(data);
    const pointer = kernels.allocate(4 * h * w);
    for (let channel = 0; channel < this.zChannels; channel++) {
      this.engine.scope(() => {
        const from = (node * this.zChannels + channel) * size;
        const table = this.engine.put(cumulative(this.zFrequency.subarray(from, from + size)));
        if (!kernels.run(table, size, Z_MAX, pointer, h * w)) throw new JndError(DAMAGED);
      });
      const values = new Int32Array(kernels.memory.buffer, pointer, h * w);
      for (let i = 0; i < h * w; i++) this.engine.view(out.at(Math.floor(i / w), i % w), this.zChannels)[channel] = values[i];
    }
    this.end();
    return out;
  }

  /** A bound on what a file may ask for: its bytes must suffice if each symbol is the likeliest. */
  private check(bytes: number, positions: number, node: number, size: number): void {
    let bits = 0;
    for (let channel = 0; channel < this.zChannels; channel++) {
      const from = (node * this.zChannels + channel) * size;
      bits += 16 - Math.log2(this.zFrequency.subarray(from, from + size).reduce((a, b) => Math.max(a, b)));
    }
    if (positions * bits > 8 * bytes + 64) throw new JndError("The coded data is too short for the image's size: download the file again.");
  }

  /** Begins with the chunk y, of which `pass` then decodes one pass after the other. */
  y(data: Uint8Array): void {
    this.begin(data);
  }

  /** Pointer to the symbols (f32) of one pass of `count` scale indexes (u8). */
  pass(indexes: number, count: number): number {
    const out = this.engine.floats(count);
    if (!this.engine.kernels.pass(indexes, count, this.tables, this.halfWidths, this.bytes, out)) throw new JndError(DAMAGED);
    return out;
  }

  /** Checks that nothing of the chunk is left. */
  end(): void {
    if (!this.engine.kernels.exhausted()) throw new JndError(DAMAGED);
  }
}
