// Range-coded latents to integers, by assembly/range.ts.

import type { Engine } from "./engine.js";
import { JndError } from "./error.js";
import type { ModelFile } from "./model.js";

const DAMAGED = "The coded data is damaged: download the file again.";

type Chunk = "z" | "y";

/** constriction's 24-bit cumulative frequencies of integer frequencies that sum to 2^16 (`Categorical`, `perfect=False`). */
function cumulative(frequencies: Uint32Array): Uint32Array {
  const n = frequencies.length;
  const out = new Uint32Array(n + 1);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    out[i] = Math.floor((sum * (2 ** 24 - n)) / 65536) + i;
    sum += frequencies[i];
  }
  out[n] = 2 ** 24;
  return out;
}

/** Where the tables of z or of y lie. */
interface Tables {
  pointers: number;
  halfWidths: number;
}

/** Decodes the chunks z and y with the tables of one model. */
export class RangeDecoder {
  private readonly tables: Record<Chunk, Tables>;
  private readonly bytes: number;
  private current: Chunk = "z";

  constructor(private readonly engine: Engine, model: ModelFile) {
    const put = (chunk: Chunk): Tables => {
      const frequency: Uint32Array = model.array(`${chunk}.frequency`), halfWidth: Int32Array = model.array(`${chunk}.half_width`);
      const pointers = new Uint32Array(halfWidth.length);
      let at = 0;
      halfWidth.forEach((half, table) => {
        pointers[table] = engine.put(cumulative(frequency.subarray(at, at + 2 * half + 2)));
        at += 2 * half + 2;
      });
      return { pointers: engine.put(pointers), halfWidths: engine.put(halfWidth) };
    };
    this.tables = { z: put("z"), y: put("y") };
    this.bytes = engine.put(cumulative(new Uint32Array(256).fill(256)));
  }

  /** Begins with a chunk, of which `pass` then decodes one pass after the other. */
  begin(chunk: Chunk, data: Uint8Array): void {
    if (data.length % 4) throw new JndError(DAMAGED);
    this.current = chunk;
    this.engine.kernels.start(this.engine.put(data), data.length / 4);
  }

  /** Pointer to the symbols (f32) of one pass or step, from the numbers (u8) of `count` tables. */
  pass(indexes: number, count: number): number {
    const out = this.engine.floats(count), { pointers, halfWidths } = this.tables[this.current];
    if (!this.engine.kernels.pass(indexes, count, pointers, halfWidths, this.bytes, out)) throw new JndError(DAMAGED);
    return out;
  }

  /** Checks that nothing of the chunk is left. */
  end(): void {
    if (!this.engine.kernels.exhausted()) throw new JndError(DAMAGED);
  }
}
