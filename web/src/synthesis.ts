// Pixels of latents: the lapped linear transform and the residual network, see codec/lapped.py.

import { type Engine, Grid } from "./engine.js";
import { LEAKY, Layer, parameters, split } from "./layer.js";
import type { ModelFile } from "./model.js";
import { interpolate } from "./nodes.js";

const BLOCK = 16;
const RGB = 3;
/** Sides of at most TILE blocks are filled up to multiples of BUCKET, as the codec pads its tiles. */
const TILE = 64, BUCKET = 8;
/** Larger images are made in strips of about as many blocks: a bound on the memory. */
const STRIP = 16384;

type Bottleneck = [reduce: Layer, middle: Layer, expand: Layer];

/** Scale and shift of each channel by quality. */
interface Modulation {
  scale: Float32Array;
  shift: Float32Array;
}

/** Pointers to what depends on the quality. */
interface Tables {
  gain: number;
  coarse: { scale: number; shift: number };
  fine: { scale: number; shift: number };
}

/** Latents of some rows of blocks, the quality of each block, and what belongs to each quality. */
interface Strip {
  y: Grid;
  quality(row: number, column: number): Tables;
}

function bucket(side: number): number {
  return side <= TILE ? Math.ceil(side / BUCKET) * BUCKET : side;
}

export class Synthesis {
  private readonly basis: Layer[];
  private readonly postfilter: number;
  private readonly columnFilter: Layer;
  private readonly logInverseGain: Float32Array;
  private readonly first: Layer[];
  private readonly second: Layer;
  private readonly third: Layer[];
  private readonly last: Layer;
  private readonly bottlenecks: { coarse: Bottleneck[]; fine: Bottleneck[] };
  private readonly modulations: { coarse: Modulation; fine: Modulation };
  /** Blocks that a pixel of the networks looks beyond its own. */
  private readonly halo: number;

  constructor(private readonly engine: Engine, model: ModelFile) {
    const weight = model.floats("basis");
    this.basis = split(engine, { weight, bias: new Float32Array(BLOCK * BLOCK * RGB) }, BLOCK);
    const matrix = model.floats("postfilter");
    this.postfilter = engine.put(matrix);
    this.columnFilter = new Layer(engine, { weight: byColour(matrix), bias: new Float32Array(BLOCK * RGB) });
    this.logInverseGain = model.floats("log_inverse_gain");
    const of = (name: string) => new Layer(engine, parameters(model, `net.${name}`));
    this.first = split(engine, parameters(model, "net.0"), 2);
    this.second = of("1");
    this.third = split(engine, parameters(model, "net.2"), 2);
    this.last = of("3");
    const chain = (name: string): Bottleneck[] => {
      const found: Bottleneck[] = [];
      for (let i = 0; model.has(`net.${name}.${i}.0.weight`); i++) {
        found.push([of(`${name}.${i}.0`), of(`${name}.${i}.1`), of(`${name}.${i}.2`)]);
      }
      return found;
    };
    this.bottlenecks = { coarse: chain("coarse"), fine: chain("fine") };
    const modulation = (name: string): Modulation => {
      const [scale, shift] = ["scale", "shift"].map((part) => model.floats(`net.${name}.${part}`));
      return { scale, shift };
    };
    this.modulations = { coarse: modulation("coarse"), fine: modulation("fine") };
    this.halo = Math.max(1, Math.ceil(this.bottlenecks.coarse.length / 2 + (this.bottlenecks.fine.length + 1) / 4));
  }

  /** RGBA of gained latents and the qualities of all blocks or of each. */
  run(y: Grid, quality: Int32Array, height: number, width: number): Uint8ClampedArray<ArrayBuffer> {
    const out = new Uint8ClampedArray(4 * width * height), { h, w } = y, [rows, columns] = [bucket(h), bucket(w)];
    const tables = new Map([...new Set(quality)].map((value): [number, Tables] => [value, this.tables(value)]));
    const at = (row: number, column: number) => quality.length === 1 ? 0 : Math.min(row, h - 1) * w + Math.min(column, w - 1);
    const step = Math.max(BUCKET, Math.floor(STRIP / columns));
    for (let start = 0; 16 * start < height; start += step) {
      this.engine.scope(() => {
        const [top, bottom] = [Math.max(0, start - this.halo), Math.min(rows, start + step + this.halo)];
        const strip: Strip = {
          y: new Grid(this.engine, bottom - top, columns, y.channels),
          quality: (row, column) => tables.get(quality[at(top + row, column)])!,
        };
        for (let row = top; row < Math.min(bottom, h); row++) {
          for (let column = 0; column < w; column++) {
            const { gain } = strip.quality(row - top, column);
            this.engine.kernels.scale(y.at(row, column), y.channels, gain, strip.y.at(row - top, column));
          }
        }
        this.draw(strip, Math.min(bottom, h) - top, w, top, [16 * start, Math.min(height, 16 * (start + step))], width, out);
      });
    }
    return out;
  }

  private tables(quality: number): Tables {
    const put = (table: Float32Array, change: (value: number) => number) => this.engine.put(interpolate(table, quality).map(change));
    const modulation = ({ scale, shift }: Modulation) => ({
      scale: put(scale, (value) => 1 + value),
      shift: put(shift, (value) => value),
    });
    const { coarse, fine } = this.modulations;
    return { gain: put(this.logInverseGain, Math.exp), coarse: modulation(coarse), fine: modulation(fine) };
  }

  /** Rows of pixels from `from` to `to` of a strip that begins with the row `top` of blocks. */
  private draw(strip: Strip, h: number, w: number, top: number, [from, to]: number[], width: number, out: Uint8ClampedArray): void {
    const { kernels } = this.engine, line = 4 * w * BLOCK * RGB;
    const x = this.linear(strip.y, h, w), fine = this.network(strip);
    const runs = fine.window(), columns = Math.ceil(width / 4);
    const [net, row, filtered] = [columns * this.last.columns, width, w * BLOCK * RGB].map((count) => this.engine.floats(count));
    for (let down = from - BLOCK * top; down < to - BLOCK * top; down++) {
      if (down % 4 === 0) {
        this.last.run({ rows: columns, from: fine.at(down / 4, 0), stride: fine.step, runs, out: net, outStride: 4 * this.last.columns });
      }
      this.filterColumns(x + down * line, w, filtered);
      kernels.pixels(x + down * line, net, down % 4, width, row);
      out.set(this.engine.bytes(row, 4 * width), 4 * width * (down + BLOCK * top));
    }
  }

  /** (16 h, 16 w, RGB) of the linear transform, filtered across the borders between rows of blocks. */
  private linear(y: Grid, h: number, w: number): number {
    const block = 4 * BLOCK * RGB, line = w * block, x = this.engine.kernels.allocate(h * BLOCK * line);
    for (let row = 0; row < h; row++) {
      this.basis.forEach((layer, i) =>
        layer.run({ rows: w, from: y.at(row, 0), stride: y.step, out: x + (BLOCK * row + i) * line, outStride: block }));
    }
    for (let row = 1; row < h; row++) this.engine.kernels.filterRows(x + (BLOCK * row - BLOCK / 2) * line, line, w * BLOCK * RGB, this.postfilter);
    return x;
  }

  /** Filters a row of pixels across the borders between its blocks; `filtered` is room for it. */
  private filterColumns(row: number, w: number, filtered: number): void {
    const block = 4 * BLOCK * RGB, inner = row + block / 2;
    this.columnFilter.run({ rows: w - 1, from: inner, stride: block, out: filtered, outStride: block });
    this.engine.bytes(inner, (w - 1) * block).set(this.engine.bytes(filtered, (w - 1) * block));
  }

  /** Features at a quarter of the resolution, which the last layer reads. */
  private network(strip: Strip): Grid {
    let x = this.upsampled(this.first, strip.y);
    const eighth = new Grid(this.engine, x.h, x.w, this.second.columns);
    for (let row = 0; row < x.h; row++) {
      this.second.run({ rows: x.w, from: x.at(row, 0), stride: x.step, out: eighth.at(row, 0), outStride: eighth.step });
    }
    x = eighth;
    for (const part of ["coarse", "fine"] as const) {
      if (part === "fine") x = this.upsampled(this.third, x);
      this.modulate(x, strip, part);
      for (const layers of this.bottlenecks[part]) this.bottleneck(layers, x);
    }
    return x;
  }

  /** Layers for the upper and the lower rows of a grid of twice the size. */
  private upsampled(layers: Layer[], x: Grid): Grid {
    const out = new Grid(this.engine, 2 * x.h, 2 * x.w, layers[0].columns / 2);
    for (let row = 0; row < x.h; row++) {
      layers.forEach((layer, i) =>
        layer.run({ rows: x.w, from: x.at(row, 0), stride: x.step, out: out.at(2 * row + i, 0), outStride: 2 * out.step }));
    }
    return out;
  }

  private modulate(x: Grid, strip: Strip, part: "coarse" | "fine"): void {
    const side = x.w / strip.y.w;
    for (let row = 0; row < x.h; row++) {
      for (let column = 0; column < strip.y.w; column++) {
        const { scale, shift } = strip.quality(Math.floor(row / side), column)[part];
        this.engine.kernels.modulate(x.at(row, side * column), side, x.channels, scale, shift);
      }
    }
  }

  private bottleneck([reduce, middle, expand]: Bottleneck, x: Grid): void {
    this.engine.scope(() => {
      const reduced = new Grid(this.engine, x.h, x.w, reduce.columns), runs = reduced.window();
      for (let row = 0; row < x.h; row++) {
        reduce.run({ rows: x.w, from: x.at(row, 0), stride: x.step, out: reduced.at(row, 0), outStride: reduced.step, activation: LEAKY });
      }
      const line = this.engine.floats(x.w * middle.columns), stride = 4 * middle.columns;
      for (let row = 0; row < x.h; row++) {
        middle.run({ rows: x.w, from: reduced.at(row, 0), stride: reduced.step, runs, out: line, outStride: stride, activation: LEAKY });
        expand.run({ rows: x.w, from: line, stride, out: x.at(row, 0), outStride: x.step, residual: x.at(row, 0) });
      }
    });
  }
}

/** A (16, 16) filter as a layer on 16 RGB pixels, (48, 48). */
function byColour(matrix: Float32Array): Float32Array {
  const side = BLOCK * RGB, out = new Float32Array(side * side);
  for (let o = 0; o < BLOCK; o++) {
    for (let i = 0; i < BLOCK; i++) {
      for (let c = 0; c < RGB; c++) out[(i * RGB + c) * side + o * RGB + c] = matrix[o * BLOCK + i];
    }
  }
  return out;
}
