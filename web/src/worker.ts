// Decodes in a worker; see client.ts for the messages.

import { Models } from "./models.js";
import { picture } from "./picture.js";

let models: Models | undefined;

self.onmessage = async ({ data: { id, file, manifest } }: MessageEvent<{ id: number; file: Uint8Array; manifest: string }>) => {
  models ??= new Models(manifest);
  try {
    const whole = await picture(models, file, (preview) => self.postMessage({ id, preview }));
    self.postMessage({ id, picture: whole });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
};
