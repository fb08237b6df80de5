import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Plugin } from "vite";

/** Stands in the worker's source for the list of what it caches. */
const PLACE = "__SHELL__";
/** What the page loads under names that do not change with their content. */
const FIXED = ["icon.svg", "theme.js"];

/** Tells the service worker which files of this build are the shell, and gives the build a name. */
export function shell(): Plugin {
  return {
    name: "shell",
    apply: "build",
    generateBundle(_, bundle) {
      const files = Object.keys(bundle)
        .filter((name) => name.startsWith("assets/"))
        .sort();
      const worker = bundle["worker.js"];
      if (worker?.type !== "chunk") throw new Error("The build has no worker.");
      if (worker.imports.length > 0) throw new Error("The worker must stand alone.");
      if (!worker.code.includes(PLACE)) throw new Error(`The worker does not name ${PLACE}.`);
      const hash = createHash("sha256").update(files.join("\n"));
      for (const name of FIXED) hash.update(readFileSync(new URL(`../public/${name}`, import.meta.url)));
      const version = hash.digest("hex").slice(0, 12);
      const told = { version, files: [...files, ...FIXED].map((name) => `/${name}`) };
      worker.code = worker.code.replace(PLACE, JSON.stringify(told));
    },
  };
}
