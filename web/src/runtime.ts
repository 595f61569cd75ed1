import * as ort from "onnxruntime-web/wasm";

/** Threads of ONNX Runtime, before its first use; by default several where the page is cross-origin isolated. */
export function useThreads(count: number): void {
  ort.env.wasm.numThreads = count;
}
