// <jnd-img src="photo.jnd" alt="..." models="models.json">: shows a .jnd file, first as a preview.

import { Client } from "./client.js";
import type { Picture } from "./picture.js";

const clients = new Map<string, Client>();

function client(manifest: string): Client {
  if (!clients.has(manifest)) clients.set(manifest, new Client(manifest));
  return clients.get(manifest)!;
}

/**
 * An image. `width`, `height` and `alt` are those of `<img>`, whose part is `img`. Fires `preview`, then `load`; or
 * `error`, a CustomEvent whose `detail` is a sentence.
 */
export class JndImg extends HTMLElement {
  static observedAttributes = ["src", "alt", "width", "height"];
  private readonly image = document.createElement("img");
  private shown = "";

  constructor() {
    super();
    const style = document.createElement("style");
    style.textContent = ":host { display: inline-block } img { max-width: 100%; height: auto; vertical-align: top }";
    this.image.part.add("img");
    this.attachShadow({ mode: "open" }).append(style, this.image);
  }

  attributeChangedCallback(name: string, _: string | null, value: string | null): void {
    if (name === "src") void this.load(value);
    else if (value === null) this.image.removeAttribute(name);
    else this.image.setAttribute(name, value);
  }

  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(value: string) {
    this.setAttribute("src", value);
  }

  /** Shows the bytes of a file. */
  async show(file: Uint8Array): Promise<void> {
    const manifest = new URL(this.getAttribute("models") ?? "models.json", document.baseURI).href;
    let last = Promise.resolve();
    const next = (picture: Picture, event: string) => (last = last.then(() => this.draw(picture)).then(() => this.tell(event)));
    const whole = await client(manifest).decode(file, (preview) => void next(preview, "preview"));
    await next(whole, "load");
  }

  private async load(src: string | null): Promise<void> {
    if (!src) return this.image.removeAttribute("src");
    try {
      const response = await fetch(new URL(src, document.baseURI));
      if (!response.ok) throw new Error(`${src} cannot be loaded (${response.status}).`);
      const file = new Uint8Array(await response.arrayBuffer());
      if (this.src === src) await this.show(file);
    } catch (error) {
      this.tell("error", error instanceof Error ? error.message : String(error));
    }
  }

  private async draw({ blob, width, height }: Picture): Promise<void> {
    const url = URL.createObjectURL(blob);
    if (!this.hasAttribute("width")) this.image.width = width;
    if (!this.hasAttribute("height")) this.image.height = height;
    this.image.src = url;
    await this.image.decode();
    if (this.shown) URL.revokeObjectURL(this.shown);
    this.shown = url;
  }

  private tell(name: string, detail?: string): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

if (!customElements.get("jnd-img")) customElements.define("jnd-img", JndImg);
