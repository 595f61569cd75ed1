// The passes of y: channel groups, each in two halves of a checkerboard; codec/hyper.py says what each step does. Arrays of
// one half are in the order in which its symbols are coded: cells of 2 x 2 blocks, the half's two blocks of each from above.

import { type Engine, Grid } from "./engine.js";
import { CLIPPED_SHIFT, LEAKY, Layer, NONE, SHIFT, parameters, split } from "./layer.js";
import { magnitudes } from "./magnitude.js";
import type { ModelFile } from "./model.js";
import { interpolateIntegers } from "./nodes.js";
import type { RangeDecoder } from "./range.js";

export interface Latents {
  /** Gained latents of all channels; 0 where they are not decoded yet. */
  y: Grid;
  /** Pointer to the (h, w, channels) residual symbols, i16. */
  symbols: number;
}

interface Group {
  /** Of the groups before; the first has none. */
  lower?: { embed: Layer; context: Layer };
  own1: Layer;
  own2: Layer;
  /** Of the anchors, which have no anchors to look at, and of the other blocks. */
  merge: Layer[];
  mid: Layer;
  out: Layer;
}

/** What a path reads in `merge`: features of the hyper-latents, the quality, features of lower groups and of own anchors. */
interface Inputs {
  /** Of both halves. */
  halves: number[];
  stride: number;
}

/** The network of the scale indexes (integers) or of the means. */
class Path {
  readonly groups: Group[] = [];
  private readonly up1: Layer[];
  private readonly up2: Layer[];
  private readonly activation: number;
  readonly width: number;

  /** @param level how many inputs tell the quality, 0 or 1 */
  constructor(private readonly engine: Engine, model: ModelFile, readonly name: "scale" | "mean", private readonly level: number) {
    this.activation = name === "scale" ? CLIPPED_SHIFT : LEAKY;
    this.up1 = split(engine, parameters(model, `${name}.up1`), 2);
    this.up2 = split(engine, parameters(model, `${name}.up2`), 4);
    this.width = this.up2[0].columns;
    for (let i = 0; model.has(`${name}.${i}.out.weight`); i++) this.groups.push(this.group(model, `${name}.${i}`));
  }

  private group(model: ModelFile, name: string): Group {
    const of = (layer: string) => new Layer(this.engine, parameters(model, `${name}.${layer}`));
    const merge = parameters(model, `${name}.merge`), own2 = of("own2");
    const anchors = merge.weight.subarray(0, merge.weight.length - own2.columns * merge.bias.length);
    return {
      lower: model.has(`${name}.embed.weight`) ? { embed: of("embed"), context: of("context") } : undefined,
      own1: of("own1"),
      own2,
      merge: [new Layer(this.engine, { ...merge, weight: anchors }), new Layer(this.engine, merge)],
      mid: of("mid"),
      out: of("out"),
    };
  }

  /** Room for the inputs of `merge`, with the features of the hyper-latents z in it. */
  inputs(z: Grid): Inputs {
    const [h, w] = [4 * z.h, 4 * z.w];
    const { own2, lower } = this.groups[this.groups.length - 1];
    const stride = 4 * (this.width + this.level + (lower?.context.columns ?? 0) + own2.columns);
    const halves = [0, 1].map(() => this.engine.kernels.allocate((stride * h * w) / 2));
    this.engine.scope(() => {
      const middle = new Grid(this.engine, h / 2, w / 2, this.width), activation = this.activation;
      const [around, runs] = [z.window(), middle.window()];
      for (let row = 0; row < z.h; row++) {
        this.up1.forEach((layer, i) => layer.run({
          rows: z.w, from: z.at(row, 0), stride: z.step, runs: around, out: middle.at(2 * row + i, 0), outStride: 2 * middle.step, activation,
        }));
      }
      middle.spread();
      for (let row = 0; row < h / 2; row++) {
        this.up2.forEach((layer, part) => {
          const [i, j] = [part >> 1, part & 1];
          const out = halves[i ^ j] + (row * w + i) * stride;
          layer.run({ rows: w / 2, from: middle.at(row, 0), stride: middle.step, runs, out, outStride: 2 * stride, activation });
        });
      }
    });
    return { halves, stride };
  }

  /** Adds to the inputs what the groups before this one say: `of` has the magnitudes of their latents. */
  readLower({ embed, context }: NonNullable<Group["lower"]>, of: Grid, { halves, stride }: Inputs): void {
    const { h, w } = of, activation = this.activation, at = 4 * (this.width + this.level);
    this.engine.scope(() => {
      const embedded = new Grid(this.engine, h, w, embed.columns), runs = embedded.window();
      for (let row = 0; row < h; row++) {
        embed.run({ rows: w, from: of.at(row, 0), stride: of.step, out: embedded.at(row, 0), outStride: embedded.step, activation });
      }
      embedded.spread();
      for (let row = 0; row < h; row++) {
        halves.forEach((inputs, half) => context.run({
          rows: w / 2, from: embedded.at(row, (row + half) & 1), stride: 2 * embedded.step, runs,
          out: inputs + ofRow(row, w) * stride + at, outStride: 2 * stride, activation,
        }));
      }
    });
  }

  /** Adds to the inputs of the other blocks what the group's anchors say, whose magnitudes begin at the channel `first`. */
  readOwn({ own1, own2, lower }: Group, of: Grid, first: number, { halves, stride }: Inputs): void {
    const { h, w } = of, activation = this.activation, at = 4 * (this.width + this.level + (lower?.context.columns ?? 0));
    this.engine.scope(() => {
      const own = new Grid(this.engine, h, w, own1.columns), runs = own.neighbours();
      for (let row = 0; row < h; row++) {
        const column = row & 1;
        own1.run({
          rows: w / 2, from: of.at(row, column) + 4 * first, stride: 2 * of.step, out: own.at(row, column), outStride: 2 * own.step, activation,
        });
      }
      for (let row = 0; row < h; row++) {
        own2.run({
          rows: w / 2, from: own.at(row, 1 - (row & 1)), stride: 2 * own.step, runs,
          out: halves[1] + ofRow(row, w) * stride + at, outStride: 2 * stride, activation,
        });
      }
    });
  }

  /** Sums of the last layer for `rows` blocks of a half, (rows, channels). */
  sums({ merge, mid, out }: Group, half: number, rows: number, { halves, stride }: Inputs): number {
    const activation = this.activation, sums = this.engine.floats(rows * out.columns);
    this.engine.scope(() => {
      const width = 4 * mid.columns, [x, deeper] = [0, 1].map(() => this.engine.kernels.allocate(rows * width));
      merge[half].run({ rows, from: halves[half], stride, out: x, outStride: width, activation });
      mid.run({ rows, from: x, stride: width, out: deeper, outStride: width, residual: x, activation });
      const last = this.name === "scale" ? SHIFT : NONE;
      out.run({ rows, from: deeper, stride: width, out: sums, outStride: 4 * out.columns, activation: last });
    });
    return sums;
  }
}

/** The place, in its half, of the first block of a row. */
function ofRow(row: number, w: number): number {
  return (row >> 1) * w + (row & 1);
}

/** Calls `each` with the quality of all blocks, or of every single one, by its place in its half. */
function byQuality(quality: Int32Array, half: number, h: number, w: number, each: (quality: number, place: number, count: number) => void): void {
  if (quality.length === 1) return each(quality[0], 0, (h * w) / 2);
  for (let row = 0; row < h; row++) {
    for (let pair = 0; pair < w / 2; pair++) each(quality[row * w + 2 * pair + ((row + half) & 1)], ofRow(row, w) + 2 * pair, 1);
  }
}

export class LatentDecoder {
  private readonly scale: Path;
  private readonly mean: Path;
  private readonly above: number;
  private readonly cross: number[];
  private readonly magnitude: number;
  private readonly offset: Float32Array;
  private readonly channels: number;

  constructor(private readonly engine: Engine, model: ModelFile) {
    this.scale = new Path(engine, model, "scale", 1);
    this.mean = new Path(engine, model, "mean", 0);
    this.above = engine.put(model.floats("mean.0.above"));
    this.cross = this.mean.groups.map((_, i) => engine.put(model.floats(`mean.${i}.cross`)));
    this.magnitude = engine.put(magnitudes());
    this.offset = model.floats("scale.offset");
    this.channels = model.shape("scale.offset")[1];
  }

  /** Channels of the first group. */
  get first(): number {
    return this.scale.groups[0].out.columns;
  }

  /**
   * Latents of a file.
   *
   * @param range decoder that stands at the beginning of y
   * @param z hyper-latents
   * @param quality 0..1000, one for all or one for each of the h x w blocks
   * @param onGroup called after each group with all that is decoded
   */
  decode(range: RangeDecoder, z: Grid, quality: Int32Array, onGroup: (latents: Latents, group: number) => void): Latents {
    const { kernels } = this.engine, [h, w] = [4 * z.h, 4 * z.w], y = new Grid(this.engine, h, w, this.channels);
    const latents = { y, symbols: kernels.allocate(2 * h * w * y.channels) };
    this.engine.scope(() => this.groups(range, z, quality, latents, onGroup));
    return latents;
  }

  private groups(range: RangeDecoder, z: Grid, quality: Int32Array, latents: Latents, onGroup: (latents: Latents, group: number) => void): void {
    const { kernels } = this.engine, { y, symbols: outSymbols } = latents, { h, w, channels: all } = y;
    const [magnitudes, compressed] = [0, 1].map(() => new Grid(this.engine, h, w, all));
    z.spread();
    const [scale, mean] = [this.scale, this.mean].map((path) => path.inputs(z));
    this.putLevels(quality, h, w, scale);
    const rowOf = (value: number): [number, number] => [value, this.engine.put(interpolateIntegers(this.offset, value))];
    const offsets = new Map([...new Set(quality)].map(rowOf));
    let first = 0;
    this.scale.groups.forEach((ofScale, group) => {
      const ofMean = this.mean.groups[group], channels = ofScale.out.columns, rows = (h * w) / 2;
      if (ofScale.lower) this.scale.readLower(ofScale.lower, magnitudes, scale);
      if (ofMean.lower) this.mean.readLower(ofMean.lower, compressed, mean);
      for (const half of [0, 1]) {
        this.engine.scope(() => {
          if (half) this.scale.readOwn(ofScale, magnitudes, first, scale);
          if (half) this.mean.readOwn(ofMean, compressed, first, mean);
          const levels = this.scale.sums(ofScale, half, rows, scale), indexes = kernels.allocate(rows * channels);
          byQuality(quality, half, h, w, (value, place, count) => {
            const at = place * channels;
            kernels.indexes(levels + 4 * at, count, channels, offsets.get(value)! + 4 * first, indexes + at);
          });
          const symbols = range.pass(indexes, rows * channels);
          const means = this.mean.sums(ofMean, half, rows, mean);
          if (!half && !group) kernels.above(h, w, channels, symbols, means, this.above, kernels.zeros(4 * (w + 4) * channels));
          if (half) kernels.cross(h, w, channels, first, all, y.pointer, this.cross[group], means);
          kernels.place(
            half, h, w, channels, first, all, symbols, means, this.magnitude, outSymbols, y.pointer, magnitudes.pointer, compressed.pointer,
          );
        });
      }
      first += channels;
      onGroup(latents, group);
    });
  }

  /** The quality, as an input of the scale path. */
  private putLevels(quality: Int32Array, h: number, w: number, { halves, stride }: Inputs): void {
    halves.forEach((inputs, half) => {
      const values = this.engine.view(inputs, (stride * h * w) / 8);
      byQuality(quality, half, h, w, (value, place, count) => {
        for (let i = place; i < place + count; i++) values[(i * stride) / 4 + this.scale.width] = value >> 2;
      });
    });
  }
}
