import { JndError } from "./error.js";
import type { Picture } from "./picture.js";

interface Task {
  resolve(picture: Picture): void;
  reject(error: Error): void;
  onPreview?(preview: Picture): void;
}

/** Decodes files in one worker of the page. */
export class Client {
  private readonly tasks = new Map<number, Task>();
  private readonly worker: Worker;
  private last = 0;

  /** @param manifest URL of `models.json` */
  constructor(private readonly manifest: string, worker: string | URL = new URL("./worker.js", import.meta.url)) {
    this.worker = new Worker(worker, { type: "module" });
    this.worker.onmessage = ({ data }) => {
      const task = this.tasks.get(data.id)!;
      if (data.preview) return task.onPreview?.(data.preview);
      this.tasks.delete(data.id);
      if (data.picture) task.resolve(data.picture);
      else task.reject(new JndError(data.error));
    };
    this.worker.onerror = ({ message }) => {
      for (const task of this.tasks.values()) task.reject(new Error(message || "The decoder's worker cannot be loaded."));
      this.tasks.clear();
    };
  }

  decode(file: Uint8Array, onPreview?: (preview: Picture) => void): Promise<Picture> {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.tasks.set(id, { resolve, reject, onPreview });
      this.worker.postMessage({ id, file, manifest: this.manifest });
    });
  }
}
