import type { Engine, Runs } from "./engine.js";
import type { ModelFile } from "./model.js";

/** Numbers of assembly/network.ts. */
export const NONE = 0, LEAKY = 1, SHIFT = 2, CLIPPED_SHIFT = 3;

const PANEL = 8;

interface Parameters {
  /** (inputs, columns) */
  weight: Float32Array;
  bias: Float32Array;
  /** 2^-s by column, of an integer layer. */
  unit?: Float32Array;
}

interface Given {
  rows: number;
  from: number;
  /** Bytes from the input of one row to that of the next. */
  stride: number;
  out: number;
  outStride: number;
  activation?: number;
  /** What is added, at the stride of `out`. */
  residual?: number;
  runs?: Runs;
}

/** A dense layer or, on the runs of a neighbourhood, a convolution. */
export class Layer {
  private readonly weight: number;
  private readonly bias: number;
  private readonly unit: number;
  private readonly inputs: number;
  private readonly dense: Runs;
  readonly columns: number;

  constructor(private readonly engine: Engine, { weight, bias, unit }: Parameters) {
    this.columns = bias.length;
    this.inputs = weight.length / bias.length;
    this.weight = engine.put(packed(weight, this.inputs, this.columns));
    this.bias = engine.put(filled(bias));
    this.unit = unit ? engine.put(filled(unit)) : this.bias;
    this.dense = { offsets: engine.put(Int32Array.of(0)), segments: 1 };
  }

  run({ rows, from, stride, out, outStride, activation = NONE, residual = 0, runs = this.dense }: Given): void {
    this.engine.kernels.product(
      rows, from, stride, runs.offsets, runs.segments, this.inputs / runs.segments, this.weight, this.bias, this.columns, activation,
      this.unit, residual, out, outStride,
    );
  }
}

/** Weights in panels of eight columns, (ceil(columns / 8), inputs, 8), filled up by zeros. */
function packed(weight: Float32Array, inputs: number, columns: number): Float32Array {
  const out = new Float32Array(Math.ceil(columns / PANEL) * PANEL * inputs);
  for (let column = 0; column < columns; column++) {
    let to = Math.floor(column / PANEL) * PANEL * inputs + (column % PANEL);
    for (let input = 0; input < inputs; input++, to += PANEL) out[to] = weight[input * columns + column];
  }
  return out;
}

function filled(values: Float32Array): Float32Array {
  const out = new Float32Array(Math.ceil(values.length / PANEL) * PANEL);
  out.set(values);
  return out;
}

/** The parameters of the layer `name` of a model. */
export function parameters(model: ModelFile, name: string): Parameters {
  const part = (kind: string) => model.floats(`${name}.${kind}`);
  return { weight: part("weight"), bias: part("bias"), unit: model.has(`${name}.unit`) ? part("unit") : undefined };
}

/** `parts` layers, each with its share of the columns. */
export function split(engine: Engine, { weight, bias, unit }: Parameters, parts: number): Layer[] {
  const columns = bias.length, share = columns / parts, inputs = weight.length / columns;
  return Array.from({ length: parts }, (_, part) => {
    const own = new Float32Array(inputs * share);
    const from = part * share;
    for (let input = 0; input < inputs; input++) {
      own.set(weight.subarray(input * columns + from, input * columns + from + share), input * share);
    }
    return new Layer(engine, { weight: own, bias: bias.subarray(from, from + share), unit: unit?.subarray(from, from + share) });
  });
}
