import { defineConfig } from "vitest/config";
import { compress } from "./plugin/compress";
import { shell } from "./plugin/shell";

/** The server behind the development server: `pocket-agent serve --no-auth --no-tls --demo --port 8080`. */
const SERVER = "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    outDir: "../src/pocket_agent/web",
    emptyOutDir: true,
    target: "es2022",
    minify: "terser", // smaller than that of esbuild by 3 %
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: {
      treeshake: { preset: "smallest", moduleSideEffects: true },
      input: { index: "index.html", worker: "src/worker/worker.ts" },
      output: {
        // A small file takes more when it is compressed by itself.
        experimentalMinChunkSize: 2000,
        // The worker has one address for ever, since browsers ask for it again by that.
        entryFileNames: (chunk) => (chunk.name === "worker" ? "worker.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  plugins: [shell(), compress()],
  server: { proxy: { "/ws": { target: SERVER, ws: true }, "/api": SERVER, "/health": SERVER } },
  // A file that touches the DOM says so in its first line: `// @vitest-environment happy-dom`.
  test: { environment: "node", pool: "threads", include: ["test/**/*.test.{ts,tsx}"] },
});
