// Model files: fetched once, kept in the browser's cache, checked by their hash.

import { Decoder } from "./decoder.js";
import { JndError } from "./error.js";

/** By the hash that files carry: where the model is, relative to the manifest, and the SHA-256 of its bytes. */
export type Manifest = Record<string, { url: string; sha256: string }>;

const CACHE = "jnd-models";

async function sha256(data: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function fetched(url: string): Promise<Response> {
  const response = await fetch(url);
  if (!response.ok) throw new JndError(`${url} cannot be loaded (${response.status}).`);
  return response;
}

/** Bytes of a model that have this SHA-256, from the cache or else the network. */
export async function modelBytes(url: string, expected: string): Promise<ArrayBuffer> {
  if (!globalThis.crypto?.subtle) throw new JndError("Serve the page over HTTPS: without it browsers cannot check the model.");
  const cache = await caches.open(CACHE);
  const kept = await cache.match(url);
  if (kept) {
    const data = await kept.arrayBuffer();
    if ((await sha256(data)) === expected) return data;
    await cache.delete(url);
  }
  const data = await (await fetched(url)).arrayBuffer();
  if ((await sha256(data)) !== expected) throw new JndError(`The model ${url} is damaged: its hash is not the one in the manifest.`);
  await cache.put(url, new Response(data.slice(0)));
  return data;
}

/** Decoders by the model hash of files, made when they are first asked for. */
export class Models {
  private manifest?: Promise<Manifest>;
  private readonly decoders = new Map<string, Promise<Decoder>>();

  /** @param url of the manifest, `models.json` as `jnd-jax web` writes it */
  constructor(private readonly url: string) {}

  decoder(hash: string): Promise<Decoder> {
    let decoder = this.decoders.get(hash);
    if (!decoder) {
      decoder = this.create(hash);
      this.decoders.set(hash, decoder);
      decoder.catch(() => this.decoders.delete(hash));
    }
    return decoder;
  }

  private async create(hash: string): Promise<Decoder> {
    this.manifest ??= fetched(this.url).then((response) => response.json());
    this.manifest.catch(() => (this.manifest = undefined));
    const entry = (await this.manifest)[hash];
    if (!entry) throw new JndError(`The model ${hash} that wrote the file is not on this site.`);
    return Decoder.create(await modelBytes(new URL(entry.url, this.url).href, entry.sha256));
  }
}
