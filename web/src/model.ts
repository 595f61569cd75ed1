// A model as `jnd-jax web` writes it: a safetensors file of layers and coding tables.

import { JndError } from "./error.js";

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const ARRAYS = { I8: Int8Array, F16: Uint16Array, I32: Int32Array, U32: Uint32Array, F32: Float32Array };

/** The number of a float16's bits. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

let table: Float32Array | undefined;

/** The numbers of float16s, by a table: a model has a million of them. */
function halves(bits: Uint16Array): Float32Array {
  table ??= new Float32Array(65536).map((_, i) => half(i));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = table[bits[i]];
  return out;
}

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

  has(name: string): boolean {
    return name in this.entries;
  }

  shape(name: string): number[] {
    return this.entry(name).shape;
  }

  /** An array of real numbers, which are stored in the smallest type that holds them. */
  floats(name: string): Float32Array {
    const values = this.array<Float32Array | Int8Array | Uint16Array>(name);
    return values instanceof Uint16Array ? halves(values) : new Float32Array(values);
  }

  array<T extends Int8Array | Uint16Array | Int32Array | Uint32Array | Float32Array>(name: string): T {
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
