/** What is wrong with a file, in a sentence that says what to do. */
export class JndError extends Error {
  override name = "JndError";
}
