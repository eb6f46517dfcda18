#!/usr/bin/env -S MALLOC_MMAP_THRESHOLD_=1048576 MALLOC_TRIM_THRESHOLD_=33554432 node
// glibc gives memory of unloaded weights back to the machine only when it is told so before the process starts.
await import("../dist/cli/main.js").catch((error) => {
  if (error.code !== "ERR_MODULE_NOT_FOUND" || !/dist.cli.main\.js/.test(error.message)) throw error;
  console.error("blockllm is not built yet: run `npm run build` in its folder first");
  process.exitCode = 1;
});
