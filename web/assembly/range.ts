// Range decoder of the library constriction (`RangeDecoder`, 32-bit words, 64-bit state, 24-bit probabilities), in
// AssemblyScript for its 64-bit integers. Pointers are offsets into the module's memory.

import { allocate, mark, release } from "./memory";

const PRECISION: u64 = 24;
const ESCAPE_BYTES: i32 = 256;
const TABLES: i32 = 256; // that an index of one byte can name

let words: usize = 0;
let length: i32 = 0;
let next: i32 = 0;
let lower: u64 = 0;
let range: u64 = 0;
let point: u64 = 0;

function read(): u64 {
  const word = next < length ? load<u32>(words + (<usize>next << 2)) : 0;
  next++;
  return word;
}

/** Begins with `count` little-endian words at `data`. */
export function start(data: usize, count: i32): void {
  words = data;
  length = count;
  next = 0;
  lower = 0;
  range = u64.MAX_VALUE;
  point = read() << 32;
  point |= read();
}

/** One symbol of a table of `count` + 1 cumulative u32 frequencies, 0 to 2^24; -1 for damaged data. */
function symbol(cumulative: usize, count: i32): i32 {
  const scale = range >> PRECISION;
  const quantile = (point - lower) / scale;
  if (quantile >> PRECISION) return -1;
  let low = 0, high = count;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (load<u32>(cumulative + (<usize>middle << 2)) <= <u32>quantile) low = middle;
    else high = middle;
  }
  const left: u64 = load<u32>(cumulative + (<usize>low << 2));
  const right: u64 = load<u32>(cumulative + (<usize>low << 2) + 4);
  lower += scale * left;
  range = scale * (right - left);
  if (range >> 32 == 0) {
    lower <<= 32;
    range <<= 32;
    point = (point << 32) | read();
  }
  return low;
}

/**
 * One pass of y or step of z: f32 symbols at `out` of `count` tables' numbers (u8) at `indexes`. They follow by number, those of
 * one number in order, then the escaped values as 16-bit integers.
 *
 * `tables` holds for each number a pointer to its cumulative frequencies, `halfWidths` the k of its symbols -k..k.
 */
export function pass(indexes: usize, count: i32, tables: usize, halfWidths: usize, bytes: usize, out: usize): bool {
  const before = mark();
  const starts = allocate(4 * (TABLES + 1));
  const order = allocate(4 * count);
  const escaped = allocate(4 * count);
  memory.fill(starts, 0, 4 * (TABLES + 1));
  for (let i = 0; i < count; i++) {
    const at = starts + 4 + (<usize>load<u8>(indexes + i) << 2);
    store<i32>(at, load<i32>(at) + 1);
  }
  for (let level = 1; level < TABLES; level++) {
    const at = starts + (<usize>level << 2);
    store<i32>(at, load<i32>(at) + load<i32>(at - 4));
  }
  for (let i = 0; i < count; i++) {
    const at = starts + (<usize>load<u8>(indexes + i) << 2);
    const position = load<i32>(at);
    store<i32>(at, position + 1);
    store<i32>(order + (<usize>position << 2), i);
  }
  let escapes = 0;
  for (let i = 0; i < count; i++) {
    const position = load<i32>(order + (<usize>i << 2));
    const level = <usize>load<u8>(indexes + position) << 2;
    const half = load<i32>(halfWidths + level);
    const value = symbol(load<usize>(tables + level), 2 * half + 2);
    if (value < 0) return false;
    if (value == 2 * half + 1) {
      store<i32>(escaped + (<usize>escapes << 2), position);
      escapes++;
    }
    else store<f32>(out + (<usize>position << 2), <f32>(value - half));
  }
  for (let i = 0; i < escapes; i++) {
    const low = symbol(bytes, ESCAPE_BYTES);
    const high = symbol(bytes, ESCAPE_BYTES);
    if (low < 0 || high < 0) return false;
    store<f32>(out + (<usize>load<i32>(escaped + (<usize>i << 2)) << 2), <f32>(<i16>(low | (high << 8))));
  }
  release(before);
  return true;
}

/** Whether all words are read and what is left of the state is what an encoder leaves. */
export function exhausted(): bool {
  return next >= length && (range == u64.MAX_VALUE || point - lower < (<u64>2 << 32) - 1);
}
