import { unpack, type Chunks, type Header } from "./container.js";
import { Engine } from "./engine.js";
import { JndError, withinMemory } from "./error.js";
import { HyperDecoder } from "./hyper.js";
import { LatentDecoder } from "./latents.js";
import { deep, lossless } from "./lossless.js";
import { ModelFile } from "./model.js";
import { Previewer, type Small } from "./preview.js";
import { RangeDecoder } from "./range.js";
import { qualities } from "./regions.js";
import { Synthesis } from "./synthesis.js";

export interface Decoded {
  width: number;
  height: number;
  /** RGBA, 8 bits a sample, in the colour space of `icc` (sRGB without one), not rotated. */
  data: Uint8ClampedArray<ArrayBuffer>;
  icc?: Uint8Array;
  exif?: Uint8Array;
  /** (h, w, M) integer symbols as they were coded. */
  symbols: Int16Array;
}

/** Decodes the files of one model. */
export class Decoder {
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly hash: string,
    private readonly engine: Engine,
    private readonly range: RangeDecoder,
    private readonly hyper: HyperDecoder,
    private readonly latents: LatentDecoder,
    private readonly synthesis: Synthesis,
    private readonly previewer: Previewer,
  ) {}

  /** Of a model that `jnd-jax web` wrote. */
  static async create(data: ArrayBuffer): Promise<Decoder> {
    const model = new ModelFile(data), engine = await Engine.create();
    const [range, hyper] = [new RangeDecoder(engine, model), new HyperDecoder(engine, model)];
    const [latents, synthesis] = [new LatentDecoder(engine, model), new Synthesis(engine, model)];
    return new Decoder(model.hash, engine, range, hyper, latents, synthesis, new Previewer(engine, model));
  }

  /**
   * The image of a file.
   *
   * @param onPreview called with a picture of 1/16 of the size as soon as the first group of channels is decoded
   */
  decode(data: Uint8Array, onPreview?: (small: Small) => void): Promise<Decoded> {
    // One after the other: there is one memory.
    const decoded = this.last.then(() => withinMemory(() => this.decodeNow(data, onPreview)));
    this.last = decoded.catch(() => {});
    return decoded;
  }

  private async decodeNow(data: Uint8Array, onPreview?: (small: Small) => void): Promise<Decoded> {
    const { header, chunks } = unpack(data);
    if (header.model !== this.hash) throw new JndError(`The file was made with model ${header.model}, not ${this.hash}: give that one.`);
    if (chunks.residual && (header.bitDepth > 8 || deep(chunks.residual.subarray(2)))) {
      throw new JndError("The file's bound on its errors has more than 8 bits, which browsers do not read: decode it with jnd-jax.");
    }
    const [h, w] = [header.height, header.width].map((side) => 4 * Math.ceil(side / 64));
    const quality = await qualities(header, chunks, h, w);
    const { pixels, symbols } = this.engine.scope(() => {
      const z = this.hyper.decode(this.range, chunks.z, h / 4, w / 4, header.quality);
      this.range.begin("y", chunks.y);
      const { y, symbols } = this.latents.decode(this.range, z, quality, (latents, group) => {
        if (group === 0) onPreview?.(this.previewer.draw(latents.y, quality, header.width, header.height));
      });
      this.range.end();
      const copied = new Int16Array(this.engine.bytes(symbols, 2 * h * w * y.channels).slice().buffer);
      return { pixels: this.synthesis.run(y, quality, header.height, header.width), symbols: copied };
    });
    await this.finish(pixels, header, chunks);
    return { width: header.width, height: header.height, data: pixels, icc: chunks.icc, exif: chunks.exif, symbols };
  }

  /** Makes of decoded pixels, RGBA, what the file means: grey images, the bound on errors and opacity. */
  private async finish(out: Uint8ClampedArray, header: Header, chunks: Chunks): Promise<void> {
    const { width, height } = header;
    for (let j = 0; header.grey && j < out.length; j += 4) out.fill(Math.floor((2 * (out[j] + out[j + 1] + out[j + 2]) + 3) / 6), j, j + 3);
    if (chunks.residual) {
      const step = chunks.residual[0] | (chunks.residual[1] << 8);
      if (!(step === 0 || step & 1)) throw new JndError("The file's record of errors is damaged: download the file again.");
      const steps = await lossless(chunks.residual.subarray(2), width, height, "record of errors");
      for (let j = 0; j < out.length; j++) if (j % 4 < 3) out[j] = step ? out[j] + step * (steps[j] - 128) : steps[j];
    }
    if (chunks.alpha) {
      const alpha = await lossless(chunks.alpha, width, height, "alpha channel");
      for (let j = 0; j < out.length; j += 4) out[j + 3] = alpha[j];
    }
  }
}
