#!/usr/bin/env node
await import("../dist/cli/main.js").catch((error) => {
  if (error.code !== "ERR_MODULE_NOT_FOUND" || !/dist.cli.main\.js/.test(error.message)) throw error;
  console.error("blockllm is not built yet: run `npm run build` in its folder first");
  process.exitCode = 1;
});
