// Bundles what echarts.js names, and collects the licences of what is in the bundle.
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const target = "../../include/nightshift/app/static/vendor";
const read = (path) => readFileSync(`node_modules/${path}`, "utf8").trim();
const version = (name) => JSON.parse(read(`${name}/package.json`)).version;

await build({
  entryPoints: ["echarts.js"],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "echarts",
  target: "es2020",
  legalComments: "none",
  banner: { js: `/*! Apache ECharts ${version("echarts")} (Apache-2.0), zrender ${version("zrender")} (BSD-3-Clause); see LICENSES.txt */` },
  outfile: `${target}/echarts.min.js`,
});

const licences = [
  ["Apache ECharts", "echarts/NOTICE", "echarts/LICENSE", "echarts/licenses/LICENSE-d3"],
  ["zrender", "zrender/LICENSE"],
  ["tslib", "tslib/LICENSE.txt"],
];
const text = licences.map(([name, ...files]) => [`==== ${name} ====`, ...files.map(read)].join("\n\n"));
writeFileSync(`${target}/LICENSES.txt`, `${text.join("\n\n\n")}\n`);
