// Write ../static/vendor and ../static/icons.svg from the packages in package-lock.json.
//
//   npm ci --ignore-scripts && npm run build
//
// The outputs are committed: only this script needs Node. VENDOR.json records what each file is made of
// and its SHA-256; tests/house/test_vendor.py compares the files with it without a network.

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { ICONS } from "./icons.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "static", "vendor");
const lock = JSON.parse(readFileSync(join(here, "package-lock.json"), "utf8"));

const LANGUAGES = [
  "bash",
  "c",
  "cpp",
  "csharp",
  "css",
  "diff",
  "dockerfile",
  "go",
  "ini",
  "java",
  "javascript",
  "json",
  "kotlin",
  "markdown",
  "php",
  "python",
  "ruby",
  "rust",
  "sql",
  "swift",
  "typescript",
  "xml",
  "yaml",
];

const BUNDLES = {
  "preact-htm.js": {
    from: ["preact", "htm"],
    entry: `
      import { h, render } from "preact";
      import htm from "htm";
      export { h, render };
      export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
      export const html = htm.bind(h);`,
  },
  "marked.js": { from: ["marked"], entry: `export { Lexer, getDefaults } from "marked";` },
  "hljs.js": {
    from: ["highlight.js"],
    entry: `
      import hljs from "highlight.js/lib/core";
      ${LANGUAGES.map((name, n) => `import l${n} from "highlight.js/lib/languages/${name}";`).join("\n")}
      ${LANGUAGES.map((name, n) => `hljs.registerLanguage("${name}", l${n});`).join("\n")}
      export default hljs;`,
  },
  "temml.js": { from: ["temml"], entry: `import temml from "temml"; export default temml;` },
};

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const about = (name) => {
  const told = JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8"));
  const locked = lock.packages[`node_modules/${name}`];
  return { name, version: told.version, license: told.license, integrity: locked.integrity };
};

function sprite() {
  const symbols = ICONS.map((name) => {
    const svg = readFileSync(join(here, "node_modules/lucide-static/icons", `${name}.svg`), "utf8");
    const shapes = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>"));
    const tidy = shapes.replace(/\s+/g, " ").replace(/> </g, "><").replace(/ \/>/g, "/>").trim();
    return `<symbol id="${name}" viewBox="0 0 24 24">${tidy}</symbol>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg">\n${symbols.join("\n")}\n</svg>\n`;
}

// The .d.ts files beside the outputs are written by hand.
for (const name of readdirSync(out)) if (!name.endsWith(".d.ts")) rmSync(join(out, name), { recursive: true });
mkdirSync(join(out, "LICENSES"), { recursive: true });
const files = [];
for (const [name, { from, entry }] of Object.entries(BUNDLES)) {
  await build({
    stdin: { contents: entry, resolveDir: here },
    outfile: join(out, name),
    bundle: true,
    format: "esm",
    minify: true,
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
  });
  files.push({ file: name, sha256: sha256(readFileSync(join(out, name))), packages: from });
}
const icons = sprite();
writeFileSync(join(out, "..", "icons.svg"), icons);
files.push({ file: "../icons.svg", sha256: sha256(icons), packages: ["lucide-static"] });
const packages = [...new Set(files.flatMap((file) => file.packages))].sort().map(about);
for (const { name } of packages) {
  cpSync(join(here, "node_modules", name, "LICENSE"), join(out, "LICENSES", `${name}.txt`));
}
writeFileSync(join(out, "VENDOR.json"), `${JSON.stringify({ packages, files }, null, 2)}\n`);
for (const { file } of files) console.log(file);
