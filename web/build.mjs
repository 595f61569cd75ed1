import { copyFile, mkdir } from "node:fs/promises";
import { build } from "esbuild";

const RUNTIME = "ort.wasm.bundle.min.mjs";

await build({
  entryPoints: ["index", "element", "worker", "service-worker"].map((name) => `src/${name}.ts`),
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  loader: { ".wasm": "binary" },
  plugins: [
    {
      // The runtime stays a file of its own: it starts its threads from its own address.
      name: "runtime",
      setup: ({ onResolve }) => onResolve({ filter: /^onnxruntime-web/ }, () => ({ path: `./${RUNTIME}`, external: true })),
    },
  ],
});
await mkdir("dist", { recursive: true });
await copyFile("demo/index.html", "dist/index.html");
for (const name of [RUNTIME, "ort-wasm-simd-threaded.wasm"]) await copyFile(`node_modules/onnxruntime-web/dist/${name}`, `dist/${name}`);
