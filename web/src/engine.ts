// The WebAssembly module of assembly/ and its memory.

import relaxed from "../build/relaxed.wasm";
import simd from "../build/simd.wasm";
import { tooLarge } from "./error.js";

/** What assembly/*.ts export; pointers, strides and offsets are in bytes. */
interface Kernels {
  memory: WebAssembly.Memory;
  allocate(bytes: number): number;
  zeros(bytes: number): number;
  mark(): number;
  release(mark: number): void;
  start(data: number, words: number): void;
  pass(indexes: number, count: number, tables: number, halfWidths: number, bytes: number, out: number): number;
  exhausted(): number;
  product(
    rows: number, a: number, rowStride: number, offsets: number, segments: number, length: number, weight: number, bias: number,
    columns: number, activation: number, unit: number, residual: number, out: number, outStride: number,
  ): void;
  indexes(values: number, positions: number, channels: number, offset: number, out: number): void;
  place(
    half: number, h: number, w: number, channels: number, first: number, all: number, symbols: number, means: number,
    magnitude: number, outSymbols: number, outY: number, outMagnitudes: number, outCompressed: number,
  ): void;
  above(h: number, w: number, channels: number, symbols: number, means: number, weight: number, room: number): void;
  cross(h: number, w: number, channels: number, first: number, all: number, y: number, weight: number, means: number): void;
  scale(x: number, channels: number, gain: number, out: number): void;
  modulate(x: number, positions: number, channels: number, scale: number, shift: number): void;
  filterRows(x: number, stride: number, count: number, matrix: number): void;
  pixels(x: number, net: number, row: number, width: number, out: number): void;
}

type Numbers = Uint8Array | Int32Array | Uint32Array | Float32Array;

export class Engine {
  private constructor(readonly kernels: Kernels) {}

  static async create(): Promise<Engine> {
    // Fused multiply-adds take 1.3 times fewer instructions, where the browser has them.
    const code = WebAssembly.validate(relaxed as BufferSource) ? relaxed : simd;
    const { instance } = await WebAssembly.instantiate(code as BufferSource, {
      env: { abort: () => { throw tooLarge(); } },
    });
    return new Engine(instance.exports as unknown as Kernels);
  }

  /** Room for this many f32. */
  floats(count: number): number {
    return this.kernels.allocate(4 * count);
  }

  /** Copies an array into the memory. */
  put(array: Numbers): number {
    const pointer = this.kernels.allocate(array.byteLength);
    this.bytes(pointer, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    return pointer;
  }

  /** A view of the memory, until the next allocation. */
  bytes(pointer: number, count: number): Uint8Array {
    return new Uint8Array(this.kernels.memory.buffer, pointer, count);
  }

  view(pointer: number, count: number): Float32Array {
    return new Float32Array(this.kernels.memory.buffer, pointer, count);
  }

  /** Runs a function and gives back what it allocated. */
  scope<T>(work: () => T): T {
    const mark = this.kernels.mark();
    try {
      return work();
    } finally {
      this.kernels.release(mark);
    }
  }
}

/** (h, w, channels) f32 with a border of one position around them, zero at first. */
export class Grid {
  readonly pointer: number;
  /** Bytes from one position, and from one row, to the next. */
  readonly step: number;
  readonly line: number;

  constructor(private readonly engine: Engine, readonly h: number, readonly w: number, readonly channels: number) {
    this.step = 4 * channels;
    this.line = this.step * (w + 2);
    this.pointer = engine.kernels.zeros(this.line * (h + 2));
  }

  /** Pointer to a position. */
  at(row: number, column: number): number {
    return this.pointer + (row + 1) * this.line + (column + 1) * this.step;
  }

  /** The three runs of a 3 x 3 neighbourhood, see `Layer.run`. */
  window(): Runs {
    const { line, step } = this;
    return { offsets: this.engine.put(Int32Array.of(-line - step, -step, line - step)), segments: 3 };
  }

  /** The positions above, below, left and right. */
  neighbours(): Runs {
    const { line, step } = this;
    return { offsets: this.engine.put(Int32Array.of(-line, line, -step, step)), segments: 4 };
  }

  /** Repeats the outermost positions on the border. */
  spread(): void {
    const { h, w, step, line, pointer } = this;
    const bytes = new Uint8Array(this.engine.kernels.memory.buffer);
    for (let row = 0; row < h; row++) {
      bytes.copyWithin(this.at(row, -1), this.at(row, 0), this.at(row, 0) + step);
      bytes.copyWithin(this.at(row, w), this.at(row, w - 1), this.at(row, w));
    }
    bytes.copyWithin(pointer, pointer + line, pointer + 2 * line);
    bytes.copyWithin(pointer + (h + 1) * line, pointer + h * line, pointer + (h + 1) * line);
  }
}

/** Where the inputs of a layer lie, as runs of equal length at offsets from a position. */
export interface Runs {
  offsets: number;
  segments: number;
}
