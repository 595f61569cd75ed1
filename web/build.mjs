import { copyFile } from "node:fs/promises";
import { build } from "esbuild";

await build({
  entryPoints: ["index", "element", "worker", "service-worker"].map((name) => `src/${name}.ts`),
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  loader: { ".wasm": "binary" },
});
await copyFile("demo/index.html", "dist/index.html");
