/** What is wrong with a file, in a sentence that says what to do. */
export class JndError extends Error {
  override name = "JndError";
}

export function tooLarge(): JndError {
  return new JndError("The image is too large for this device's memory.");
}

/** What `make` returns; where an array finds no room, the sentence in place of the browser's RangeError. */
export async function withinMemory<T>(make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw error instanceof RangeError ? tooLarge() : error;
  }
}
