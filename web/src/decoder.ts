import * as ort from "onnxruntime-web/wasm";
import { unpack, type Chunks, type Header } from "./container.js";
import { JndError } from "./error.js";
import { LatentDecoder, type Latents } from "./latents.js";
import { deep, lossless } from "./lossless.js";
import { ModelFile } from "./model.js";
import { Previewer, type Small } from "./preview.js";
import { RangeDecoder } from "./range.js";
import { qualities } from "./regions.js";

export interface Decoded {
  width: number;
  height: number;
  /** RGBA, 8 bits a sample, in the colour space of `icc` (sRGB without one), not rotated. */
  data: Uint8ClampedArray<ArrayBuffer>;
  icc?: Uint8Array;
  exif?: Uint8Array;
  /** (h, w, M) integer symbols as they were coded. */
  symbols: Float32Array;
}

export interface Options {
  /** Execution providers of ONNX Runtime Web in the order of preference, ["wasm"] by default. */
  executionProviders?: string[];
}

/** Decodes the files of one model. */
export class Decoder {
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly hash: string,
    private readonly range: RangeDecoder,
    private readonly latents: LatentDecoder,
    private readonly synthesis: ort.InferenceSession,
    private readonly previewer: Previewer,
  ) {}

  /** Of a model that `jnd-jax web` wrote. */
  static async create(data: ArrayBuffer, options: Options = {}): Promise<Decoder> {
    const model = new ModelFile(data);
    const session = (name: string) =>
      ort.InferenceSession.create(model.array<Uint8Array>(name), { executionProviders: options.executionProviders ?? ["wasm"] });
    const count = model.names.filter((name) => name.startsWith("pass-")).length;
    const features = await session("features.onnx");
    const passes = [];
    for (let i = 0; i < count; i++) passes.push(await session(`pass-${i}.onnx`));
    const latents = new LatentDecoder(features, passes);
    return new Decoder(model.hash, await RangeDecoder.create(model), latents, await session("synthesize.onnx"), new Previewer(model));
  }

  /**
   * The image of a file.
   *
   * @param onPreview called with a picture of 1/16 of the size as soon as the first group of channels is decoded
   */
  decode(data: Uint8Array, onPreview?: (small: Small) => void): Promise<Decoded> {
    // One after the other: the range decoder has one state.
    const decoded = this.last.then(() => this.decodeNow(data, onPreview));
    this.last = decoded.catch(() => {});
    return decoded;
  }

  private async decodeNow(data: Uint8Array, onPreview?: (small: Small) => void): Promise<Decoded> {
    const { header, chunks } = unpack(data);
    if (header.model !== this.hash) throw new JndError(`The file was made with model ${header.model}, not ${this.hash}: give that one.`);
    if (header.passes !== this.latents.count) throw new JndError(`The file declares ${header.passes} passes, its model has ${this.latents.count}.`);
    if (chunks.residual && (header.bitDepth > 8 || deep(chunks.residual.subarray(2)))) {
      throw new JndError("The file's bound on its errors has more than 8 bits, which browsers do not read: decode it with jnd-jax.");
    }
    const [h, w] = [header.height, header.width].map((side) => 4 * Math.ceil(side / 64));
    const quality = await qualities(header, chunks, h, w);
    const z = this.range.z(chunks.z, (h * w) / 16, header.quality);
    this.range.y(chunks.y);
    const { y, symbols } = await this.latents.decode(this.range, z, h, w, quality, (latents, group) => {
      if (group === 0) onPreview?.(this.previewer.draw(latents.y, h, w, quality, header.width, header.height));
    });
    this.range.end();
    const pixels = await this.finish(await this.pixels(y, h, w, quality, header), header, chunks);
    return { width: header.width, height: header.height, data: pixels, icc: chunks.icc, exif: chunks.exif, symbols };
  }

  private async pixels(y: Latents["y"], h: number, w: number, quality: Int32Array, header: Header): Promise<Uint8Array> {
    const scalar = (value: number) => new ort.Tensor("int32", Int32Array.of(value), []);
    const { images } = await this.synthesis.run({
      y: new ort.Tensor("float32", y, [1, h, w, y.length / (h * w)]),
      quality: new ort.Tensor("int32", quality, quality.length === 1 ? [1, 1, 1] : [1, h, w]),
      height: scalar(header.height),
      width: scalar(header.width),
    });
    return images.data as Uint8Array;
  }

  /** RGBA of decoded RGB: grey images, the bound on errors and opacity. */
  private async finish(rgb: Uint8Array, header: Header, chunks: Chunks): Promise<Uint8ClampedArray<ArrayBuffer>> {
    const { width, height } = header;
    const out = new Uint8ClampedArray(4 * width * height).fill(255);
    for (let i = 0, j = 0; j < out.length; i += 3, j += 4) {
      const [r, g, b] = [rgb[i], rgb[i + 1], rgb[i + 2]];
      const mean = Math.floor((2 * (r + g + b) + 3) / 6);
      out[j] = header.grey ? mean : r;
      out[j + 1] = header.grey ? mean : g;
      out[j + 2] = header.grey ? mean : b;
    }
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
    return out;
  }
}

