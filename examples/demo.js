// The main job on the fixtures, from a fresh clone with only Node and npm: install, build, take nine models apart, keep
// every block once, serve them all from one process and ask each one something only it knows.
// Imports nothing but Node itself: when it starts, nothing is installed yet.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const MODELS = ["base", "mirror", "support", "legal", "finance", "hr", "sales", "research", "support-v2"];
const DEPARTMENTS = ["support", "legal", "finance", "hr", "sales", "research"];

process.chdir(root);
installAndBuild();
const folder = mkdtempSync(join(tmpdir(), "blockllm-demo-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

say("1. Take nine models apart: one base, seven fine-tunes of it, one copy under another name");
run(["split", ...MODELS.map((name) => `fixtures/desk/optimum/${name}`)]);

say("2. What they share");
run(["dedupe"]);
const sharing = runJson(["dedupe"]);

say("3. Does every chain of blocks compute what the original file computes?");
const verified = MODELS.map((name) => runJson(["verify", name, "--against", `fixtures/desk/optimum/${name}`]));
for (const one of verified) {
  const verdict = one.greedy_equal ? "same tokens" : "OTHER TOKENS";
  console.log(
    `${one.model.padEnd(11)} ${verdict}, logits differ by at most ${one.max_abs_logit_diff.toExponential(1)}`,
  );
}

say("4. One server for all of them; six departments ask their 100 questions each, all at the same time");
const recorded = JSON.parse(readFileSync("fixtures/desk/accuracy.json", "utf8"));
const server = await startServer();
const began = performance.now();
const scores = await Promise.all(DEPARTMENTS.map((name) => examine(server.url, name)));
const seconds = ((performance.now() - began) / 1000).toFixed(1);
await server.stop();
console.log(`600 answers in ${seconds} s; one of each department, and how many were right:\n`);
for (const { model, right, before, shown } of scores) {
  console.log(`${model.padEnd(9)} ${shown.question.padEnd(40)} ${shown.answer.padEnd(18)} expected: ${shown.expected}`);
  console.log(`${" ".repeat(9)} ${right} of 100 right; the original model: ${before}`);
}

const equal = verified.filter(({ passed }) => passed).length;
const unchanged = scores.filter(({ right, before }) => right === before).length;
const saved = sharing.logical_bytes - sharing.stored_bytes;
say("Result");
console.log(`${equal} of ${verified.length} models give the same tokens as their original files`);
console.log(`${unchanged} of ${scores.length} departments score exactly what their model scored before`);
console.log(
  `${megabytes(sharing.stored_bytes)} stored instead of ${megabytes(sharing.logical_bytes)}: ${megabytes(saved)} saved`,
);
process.exitCode = equal === verified.length && unchanged === scores.length ? 0 : 1;

function installAndBuild() {
  if (!existsSync("node_modules/.package-lock.json")) npm("ci");
  npm("run", "build");
}

function npm(...command) {
  const script = process.env["npm_execpath"];
  const result = script
    ? spawnSync(process.execPath, [script, ...command], { stdio: "inherit" })
    : spawnSync("npm", command, { stdio: "inherit", shell: process.platform === "win32" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function commandLine(command) {
  return ["bin/blockllm.js", "--repo", join(folder, "blocks"), ...command];
}

function run(command) {
  console.log(`$ blockllm ${command.join(" ")}`);
  const { status } = spawnSync(process.execPath, commandLine(command), { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

function runJson(command) {
  const { status, stdout, stderr } = spawnSync(process.execPath, commandLine(["--json", "--quiet", ...command]));
  // 3 is a verdict, with its figures on stdout like any other.
  if (status === 0 || status === 3) return JSON.parse(String(stdout));
  console.error(String(stderr));
  process.exit(status ?? 1);
}

async function startServer() {
  console.log("$ blockllm serve");
  const child = spawn(process.execPath, commandLine(["--json", "--quiet", "serve", "--port", "0"]), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let printed = "";
  for await (const piece of child.stdout.iterator({ destroyOnReturn: false })) {
    printed += piece;
    if (isWholeJson(printed)) break;
  }
  if (!isWholeJson(printed)) throw new Error(`the server ended before it was ready: ${printed}`);
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { url: JSON.parse(printed).url, stop };
}

function isWholeJson(text) {
  return text.trimEnd().endsWith("\n}");
}

/** All 100 held-out questions of a department; the one shown is the first that the model knows. */
async function examine(url, model) {
  const questions = JSON.parse(readFileSync(`fixtures/desk/eval/${model}.json`, "utf8"));
  const answers = await Promise.all(questions.map((question) => ask(url, model, question)));
  const known = answers.filter(({ answer, expected }) => answer === expected);
  const before = Math.round(100 * recorded[model][model]);
  return { model, right: known.length, before, shown: known[0] ?? answers[0] };
}

async function ask(url, model, { prompt, answer: expected }) {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, prompt, max_tokens: 14, temperature: 0 }),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(`${model}: ${response.status} ${JSON.stringify(body)}`);
  return { question: prompt, answer: upToFullStop(body.choices[0].text), expected };
}

/** An answer ends with its first " ."; the small models go on talking after it. */
function upToFullStop(text) {
  const end = text.indexOf(" .");
  return (end < 0 ? text : text.slice(0, end + 2)).trim();
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function say(heading) {
  console.log(`\n${heading}`);
}
