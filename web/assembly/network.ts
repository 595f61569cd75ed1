// The steps of the decoder's networks, on f32. Pointers, strides and offsets are in bytes.

/** What follows a product, see `product`. */
const LEAKY: i32 = 1, SHIFT: i32 = 2, CLIPPED_SHIFT: i32 = 3;

const BLOCK: i32 = 16;
const scratch = memory.data(16 * BLOCK, 16);

@inline
function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

@inline
function settle(x: v128, activation: i32, unit: usize, residual: usize): v128 {
  if (activation == LEAKY) x = f32x4.max(x, f32x4.mul(x, f32x4.splat(0.01)));
  else if (activation >= SHIFT) x = f32x4.floor(f32x4.add(f32x4.mul(x, v128.load(unit)), f32x4.splat(0.5)));
  if (residual) x = f32x4.add(v128.load(residual), x);
  return activation == CLIPPED_SHIFT ? f32x4.min(f32x4.max(x, f32x4.splat(0)), f32x4.splat(255)) : x;
}

@inline
function keep(left: v128, right: v128, columns: i32, activation: i32, unit: usize, residual: usize, out: usize): void {
  left = settle(left, activation, unit, residual);
  right = settle(right, activation, unit + 16, residual ? residual + 16 : 0);
  if (columns >= 8) {
    v128.store(out, left);
    v128.store(out, right, 16);
  } else {
    v128.store(scratch, left);
    v128.store(scratch, right, 16);
    memory.copy(out, scratch, columns << 2);
  }
}

/** Four rows and eight columns of `product`: as many sums as the sixteen vector registers take beside their factors. */
function fourRows(
  a: usize, rowStride: usize, offsets: usize, segments: i32, length: i32, weight: usize, bias: usize, columns: i32,
  activation: i32, unit: usize, residual: usize, out: usize, outStride: usize,
): void {
  const left = v128.load(bias), right = v128.load(bias, 16);
  let l0 = left, r0 = right, l1 = left, r1 = right, l2 = left, r2 = right, l3 = left, r3 = right;
  for (let segment = 0; segment < segments; segment++) {
    let a0 = a + load<usize>(offsets + (<usize>segment << 2)), a1 = a0 + rowStride, a2 = a1 + rowStride, a3 = a2 + rowStride;
    const end = a0 + (<usize>length << 2);
    while (a0 < end) {
      const wl = v128.load(weight), wr = v128.load(weight, 16);
      let x = v128.load_splat<f32>(a0);
      l0 = madd(x, wl, l0); r0 = madd(x, wr, r0);
      x = v128.load_splat<f32>(a1);
      l1 = madd(x, wl, l1); r1 = madd(x, wr, r1);
      x = v128.load_splat<f32>(a2);
      l2 = madd(x, wl, l2); r2 = madd(x, wr, r2);
      x = v128.load_splat<f32>(a3);
      l3 = madd(x, wl, l3); r3 = madd(x, wr, r3);
      a0 += 4; a1 += 4; a2 += 4; a3 += 4; weight += 32;
    }
  }
  const step = residual ? outStride : 0;
  keep(l0, r0, columns, activation, unit, residual, out);
  keep(l1, r1, columns, activation, unit, residual + step, out + outStride);
  keep(l2, r2, columns, activation, unit, residual + 2 * step, out + 2 * outStride);
  keep(l3, r3, columns, activation, unit, residual + 3 * step, out + 3 * outStride);
}

function oneRow(
  a: usize, offsets: usize, segments: i32, length: i32, weight: usize, bias: usize, columns: i32,
  activation: i32, unit: usize, residual: usize, out: usize,
): void {
  let left = v128.load(bias), right = v128.load(bias, 16);
  for (let segment = 0; segment < segments; segment++) {
    let at = a + load<usize>(offsets + (<usize>segment << 2));
    const end = at + (<usize>length << 2);
    while (at < end) {
      const x = v128.load_splat<f32>(at);
      left = madd(x, v128.load(weight), left);
      right = madd(x, v128.load(weight, 16), right);
      at += 4; weight += 32;
    }
  }
  keep(left, right, columns, activation, unit, residual, out);
}

/**
 * out[r] = residual[r] + activation(bias + in[r] weight), where in[r] are `segments` runs of `length` numbers, each at its
 * offset from a + r * rowStride: one run in a dense layer, three in a 3 x 3 convolution, four for the neighbours.
 *
 * `weight` is packed by eight columns, see network.ts; `bias` and `unit` are as long. `activation` 1 is the leaky ReLU, 2
 * and 3 shift an integer layer's sums by their unit 2^-s, and 3 clips to 0..255 what comes out. Without a `residual` give 0.
 */
export function product(
  rows: i32, a: usize, rowStride: usize, offsets: usize, segments: i32, length: i32, weight: usize, bias: usize,
  columns: i32, activation: i32, unit: usize, residual: usize, out: usize, outStride: usize,
): void {
  const panel = <usize>(segments * length) << 5;
  for (let row = 0; row < rows;) {
    const step = rows - row >= 4 ? 4 : 1;
    for (let column = 0, w = weight; column < columns; column += 8, w += panel) {
      const at = <usize>column << 2, from = residual ? residual + at : 0;
      if (step == 4) {
        fourRows(a, rowStride, offsets, segments, length, w, bias + at, columns - column, activation, unit + at, from, out + at, outStride);
      } else oneRow(a, offsets, segments, length, w, bias + at, columns - column, activation, unit + at, from, out + at);
    }
    row += step;
    a += <usize>step * rowStride;
    out += <usize>step * outStride;
    if (residual) residual += <usize>step * outStride;
  }
}

/** u8 scale indexes of integers carried by f32, (positions, channels), plus an offset (f32) by channel. */
export function indexes(values: usize, positions: i32, channels: i32, offset: usize, out: usize): void {
  for (let position = 0; position < positions; position++) {
    for (let channel = 0; channel < channels; channel++, values += 4, out++) {
      const index = load<f32>(values) + load<f32>(offset + (<usize>channel << 2));
      store<u8>(out, <u8>min(max(index, 0), 63));
    }
  }
}

/** Column of a half's block in row `row` and column pair `pair`: anchors have an even sum of row and column. */
@inline
function columnOf(row: i32, pair: i32, half: i32): i32 {
  return 2 * pair + ((row + half) & 1);
}

/**
 * Spreads the symbols (f32) of one pass over the grids of all latents, which have a border of one block.
 *
 * The symbols and means of a pass are in the order in which they are coded: cells of 2 x 2 blocks by rows, the half's two
 * blocks of each from above, their channels. `first` is the group's first channel of `all`.
 */
export function place(
  half: i32, h: i32, w: i32, channels: i32, first: i32, all: i32, symbols: usize, means: usize, magnitude: usize,
  outSymbols: usize, outY: usize, outMagnitudes: usize, outCompressed: usize,
): void {
  for (let cells = 0; cells < h; cells += 2) {
    for (let pair = 0; pair < w >> 1; pair++) {
      for (let row = cells; row < cells + 2; row++) {
        const column = columnOf(row, pair, half);
        let whole = <usize>((row * w + column) * all + first) << 1;
        let at = <usize>(((row + 1) * (w + 2) + column + 1) * all + first) << 2;
        for (let channel = 0; channel < channels; channel++, symbols += 4, means += 4, whole += 2, at += 4) {
          const symbol = load<f32>(symbols), y = symbol + load<f32>(means), size = abs(y);
          const level = <usize>min(abs(symbol), 63);
          store<i16>(outSymbols + whole, <i16>symbol);
          store<f32>(outY + at, y);
          store<f32>(outMagnitudes + at, load<f32>(magnitude + (level << 2)));
          store<f32>(outCompressed + at, copysign(Mathf.log(size + sqrt(size * size + 1)), y));
        }
      }
    }
  }
}

/**
 * Adds to the means of the first group's anchors what the two anchors diagonally above each say, see codec/hyper.py.
 *
 * `weight` has a row for the left and one for the right anchor. `room` is for two rows of deviations with a border of one
 * anchor on either side, all zero: those of even rows, and those of odd rows.
 */
export function above(h: i32, w: i32, channels: i32, symbols: usize, means: usize, weight: usize, room: usize): void {
  const next = <usize>channels << 2, odd = room + <usize>(w / 2 + 2) * next;
  for (let row = 0; row < h; row++) {
    const lower = row & 1, here = (lower ? odd : room) + next, left = lower ? room + next : odd;
    for (let pair = 0; pair < w >> 1; pair++) {
      const block = <usize>((row - lower) * (w >> 1) + 2 * pair + lower) * next, across = <usize>pair * next;
      for (let channel: usize = 0; channel < next; channel += 4) {
        const beside = left + across + channel, mean = means + block + channel;
        const shift = load<f32>(beside) * load<f32>(weight + channel) + load<f32>(beside + next) * load<f32>(weight + next + channel);
        store<f32>(mean, load<f32>(mean) + shift);
        store<f32>(here + across + channel, load<f32>(symbols + block + channel) + shift);
      }
    }
  }
}

/** Adds to the means of a group's other blocks what its anchors around them say: y is a grid with a border of zeros. */
export function cross(h: i32, w: i32, channels: i32, first: i32, all: i32, y: usize, weight: usize, means: usize): void {
  const across = <usize>all << 2, down = <usize>((w + 2) * all) << 2, next = <usize>channels << 2;
  for (let cells = 0; cells < h; cells += 2) {
    for (let pair = 0; pair < w >> 1; pair++) {
      for (let row = cells; row < cells + 2; row++) {
        let at = y + (<usize>(((row + 1) * (w + 2) + columnOf(row, pair, 1) + 1) * all + first) << 2), weights = weight;
        for (let channel = 0; channel < channels; channel++, at += 4, weights += 4, means += 4) {
          const sum = load<f32>(at - down) * load<f32>(weights) + load<f32>(at + down) * load<f32>(weights + next)
            + load<f32>(at - across) * load<f32>(weights + 2 * next) + load<f32>(at + across) * load<f32>(weights + 3 * next);
          store<f32>(means, load<f32>(means) + sum);
        }
      }
    }
  }
}

/** out = x * gain, by channel. */
export function scale(x: usize, channels: i32, gain: usize, out: usize): void {
  for (let channel: usize = 0; channel < <usize>channels << 2; channel += 4) {
    store<f32>(out + channel, load<f32>(x + channel) * load<f32>(gain + channel));
  }
}

/** Leaky ReLU of x * scale + shift, by channel, in place. */
export function modulate(x: usize, positions: i32, channels: i32, scale: usize, shift: usize): void {
  for (let position = 0; position < positions; position++) {
    for (let channel: usize = 0; channel < <usize>channels << 2; channel += 4, x += 4) {
      const value = load<f32>(x) * load<f32>(scale + channel) + load<f32>(shift + channel);
      store<f32>(x, max(value, 0.01 * value));
    }
  }
}

/** Applies a (16, 16) matrix to 16 rows of `count` numbers, a multiple of 4, in place. */
export function filterRows(x: usize, stride: usize, count: i32, matrix: usize): void {
  for (let column = 0; column < count; column += 4, x += 16) {
    for (let i = 0; i < BLOCK; i++) v128.store(scratch + (<usize>i << 4), v128.load(x + <usize>i * stride));
    for (let o = 0; o < BLOCK; o++) {
      let sum = f32x4.splat(0);
      for (let i = 0; i < BLOCK; i++) {
        sum = madd(v128.load_splat<f32>(matrix + (<usize>(o * BLOCK + i) << 2)), v128.load(scratch + (<usize>i << 4)), sum);
      }
      v128.store(x + <usize>o * stride, sum);
    }
  }
}

/**
 * One row of RGBA pixels.
 *
 * `x` has the pixels of the linear synthesis, RGB, `net` for every fourth of them 4 x 4 pixels of the residual network, of
 * which `row` is the row.
 */
export function pixels(x: usize, net: usize, row: i32, width: i32, out: usize): void {
  for (let column = 0; column < width; column++, out += 4) {
    let more = net + (<usize>((column >> 2) * 48 + (row * 4 + (column & 3)) * 3) << 2);
    for (let c: usize = 0; c < 3; c++, x += 4, more += 4) {
      const value = nearest((load<f32>(x) + load<f32>(more) + <f32>0.5) * 255);
      store<u8>(out + c, <u8>min(max(value, 0), 255));
    }
    store<u8>(out + 3, 255);
  }
}
