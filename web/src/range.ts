// Range-coded latents to integers, by the small WebAssembly module of assembly/range.ts.

import wasm from "../build/range.wasm";
import { JndError } from "./error.js";
import type { ModelFile } from "./model.js";

interface Exports {
  memory: WebAssembly.Memory;
  allocate(bytes: number): number;
  mark(): number;
  release(mark: number): void;
  start(data: number, words: number): void;
  run(cumulative: number, size: number, zero: number, out: number, count: number): number;
  pass(indexes: number, count: number, tables: number, halfWidths: number, bytes: number, out: number): number;
  exhausted(): number;
}

export const Z_MAX = 127;
const SCALE_LEVELS = 64;
const NODE_SPACING = 125;
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
  readonly zChannels: number;
  private readonly tables: number;
  private readonly halfWidths: number;
  private readonly bytes: number;
  private base: number;

  static async create(model: ModelFile): Promise<RangeDecoder> {
    const { instance } = await WebAssembly.instantiate(wasm as BufferSource, {
      env: { abort: () => { throw new JndError("The image is too large for this device's memory."); } },
    });
    return new RangeDecoder(instance.exports as unknown as Exports, model);
  }

  private constructor(private readonly module: Exports, model: ModelFile) {
    this.zFrequency = model.array("z.frequency");
    this.zChannels = model.shape("z.frequency")[1];
    const frequency: Uint32Array = model.array("y.frequency");
    const halfWidth: Int32Array = model.array("y.half_width");
    const pointers = new Uint32Array(SCALE_LEVELS);
    let at = 0;
    halfWidth.forEach((half, level) => {
      pointers[level] = this.put(cumulative(frequency.subarray(at, at + 2 * half + 2)));
      at += 2 * half + 2;
    });
    this.tables = this.put(pointers);
    this.halfWidths = this.put(halfWidth);
    this.bytes = this.put(cumulative(new Uint32Array(256).fill(256)));
    this.base = module.mark();
  }

  private put(array: Uint8Array | Uint32Array | Int32Array): number {
    const pointer = this.module.allocate(array.byteLength);
    new Uint8Array(this.module.memory.buffer).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), pointer);
    return pointer;
  }

  private begin(data: Uint8Array): void {
    if (data.length % 4) throw new JndError(DAMAGED);
    this.module.release(this.base);
    this.module.start(this.put(data), data.length / 4);
  }

  /** Hyper-latents (h, w, C) of the chunk z. */
  z(data: Uint8Array, positions: number, quality: number): Int32Array {
    const node = Math.floor((quality + (NODE_SPACING >> 1)) / NODE_SPACING);
    const size = 2 * Z_MAX + 1;
    this.check(data.length, positions, node, size);
    this.begin(data);
    const out = new Int32Array(positions * this.zChannels);
    const pointer = this.module.allocate(4 * positions);
    for (let channel = 0; channel < this.zChannels; channel++) {
      const from = (node * this.zChannels + channel) * size;
      const table = this.put(cumulative(this.zFrequency.subarray(from, from + size)));
      if (!this.module.run(table, size, Z_MAX, pointer, positions)) throw new JndError(DAMAGED);
      const values = new Int32Array(this.module.memory.buffer, pointer, positions);
      for (let i = 0; i < positions; i++) out[i * this.zChannels + channel] = values[i];
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

  /** Symbols of one pass from its scale indexes. */
  pass(indexes: Uint8Array): Float32Array {
    const mark = this.module.mark();
    const pointer = this.put(indexes);
    const out = this.module.allocate(4 * indexes.length);
    const good = this.module.pass(pointer, indexes.length, this.tables, this.halfWidths, this.bytes, out);
    if (!good) throw new JndError(DAMAGED);
    const symbols = new Float32Array(this.module.memory.buffer, out, indexes.length).slice();
    this.module.release(mark);
    return symbols;
  }

  /** Checks that nothing of the chunk is left. */
  end(): void {
    if (!this.module.exhausted()) throw new JndError(DAMAGED);
  }
}
