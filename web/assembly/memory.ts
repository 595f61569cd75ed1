// A stack of arrays in the module's memory.

let top: usize = __heap_base;

// Kernels read whole vectors, also at the end of an array.
const VECTOR: usize = 32;

/** Room for this many bytes; `release` gives it back. */
export function allocate(bytes: usize): usize {
  const start = (top + 15) & ~15;
  top = start + bytes;
  const missing = <i32>((top + VECTOR + 65535) >> 16) - memory.size();
  if (top < start || (missing > 0 && memory.grow(missing) < 0)) abort();
  return start;
}

/** As `allocate`, filled with zeros. */
export function zeros(bytes: usize): usize {
  const start = allocate(bytes);
  memory.fill(start, 0, bytes);
  return start;
}

export function mark(): usize {
  return top;
}

/** Gives back what was allocated since this mark. */
export function release(mark: usize): void {
  top = mark;
}
