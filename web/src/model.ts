// A model as `jnd-jax web` writes it: a safetensors file of ONNX graphs and coding tables.

import { JndError } from "./error.js";

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const ARRAYS = { U8: Uint8Array, I32: Int32Array, U32: Uint32Array, F32: Float32Array };

export class ModelFile {
  private readonly entries: Record<string, Entry>;
  private readonly start: number;
  /** Of the model, 16 hexadecimal digits, as files name it. */
  readonly hash: string;

  constructor(private readonly data: ArrayBuffer) {
    const size = Number(new DataView(data).getBigUint64(0, true));
    const { __metadata__, ...entries } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, size)));
    this.entries = entries;
    this.start = 8 + size;
    this.hash = __metadata__.hash;
  }

  get names(): string[] {
    return Object.keys(this.entries);
  }

  shape(name: string): number[] {
    return this.entry(name).shape;
  }

  array<T extends Uint8Array | Int32Array | Uint32Array | Float32Array>(name: string): T {
    const { dtype, data_offsets } = this.entry(name);
    const [from, to] = data_offsets.map((offset) => this.start + offset);
    return new ARRAYS[dtype as keyof typeof ARRAYS](this.data.slice(from, to)) as T;
  }

  private entry(name: string): Entry {
    const entry = this.entries[name];
    if (!entry) throw new JndError(`The model lacks ${name}: write it anew with \`jnd-jax web\`.`);
    return entry;
  }
}
