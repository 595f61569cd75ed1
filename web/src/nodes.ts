// Tables by quality: rows at the qualities 0, 125, ..., 1000, linear between them.

const NODE_SPACING = 125;
const NODES = 9;

function below(quality: number): [node: number, distance: number] {
  const node = Math.min(Math.floor(quality / NODE_SPACING), NODES - 2);
  return [node, quality - node * NODE_SPACING];
}

/** Row of a (nodes, channels) table at a quality in tenths. */
export function interpolate(table: Float32Array, quality: number): Float32Array {
  const [node, distance] = below(quality), channels = table.length / NODES;
  return Float32Array.from({ length: channels }, (_, channel) => {
    const [low, high] = [table[node * channels + channel], table[(node + 1) * channels + channel]];
    return (low * (NODE_SPACING - distance) + high * distance) / NODE_SPACING;
  });
}

/** The same of an integer table, rounded. */
export function interpolateIntegers(table: Float32Array, quality: number): Float32Array {
  const [node, distance] = below(quality), channels = table.length / NODES;
  return Float32Array.from({ length: channels }, (_, channel) => {
    const [low, high] = [table[node * channels + channel], table[(node + 1) * channels + channel]];
    return Math.floor((2 * (low * (NODE_SPACING - distance) + high * distance) + NODE_SPACING) / (2 * NODE_SPACING));
  });
}
