// Lists what the reference parser finds in an AsyncAPI document, and fails if it finds anything.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const path = process.argv[2];
const { document, diagnostics } = await new Parser().parse(await readFile(path, "utf8"));
for (const { code, message, path: place } of diagnostics) {
  console.log(`${path}: ${place.join("/")}: ${message} (${code})`);
}
process.exit(document && diagnostics.length === 0 ? 0 : 1);
