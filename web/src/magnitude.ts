const ACTIVATION_UNIT = 16;
const MAGNITUDE_LEVELS = 64;

/** What the integer networks see of the magnitudes 0, 1, ...; the last stands for all larger ones. */
export function magnitudes(): Float32Array {
  return Float32Array.from({ length: MAGNITUDE_LEVELS }, (_, level) => Math.round(ACTIVATION_UNIT * Math.log2(1 + level)));
}
