import { describe, expect, test, vi } from "vitest";
import type { EngineRequest } from "../../src/engine/request.ts";
import { fixtureModels, splitFixtures, TESTS_ALL } from "../blocks/split-fixtures.ts";
import { recordingEngine } from "./serve-recorded.ts";
import { missingWebgpu } from "./webgpu-here.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 240_000 });
const missing = await missingWebgpu();

describe.skipIf(missing !== null)("the desk's models on a WebGPU device", () => {
  test("give the CPU's tokens alone and mixed", async () => {
    // Of one exporter: the others' take as long again, on a device that is computed.
    const split = await splitFixtures(
      fixtureModels().filter((path) => path.startsWith(TESTS_ALL ? "desk/" : "desk/genai/")),
    );
    const names = [...split.models.keys()];
    expect(names.length).toBe(TESTS_ALL ? 20 : 9);
    const requests = names.map((model, id): [number, EngineRequest] => [
      id,
      {
        model,
        tokens: Array.from({ length: 5 + ((id * 7) % 23) }, (_, at) => (at * 7 + id * 13) % 80),
        maxTokens: 8,
        sampling: { temperature: 0 },
        ignoreEnd: true,
      },
    ]);
    const host = await recordingEngine(split.repository, names, { threads: 1 });
    const expected = (await host.run(requests)).tokens;
    await host.close();

    const device = await recordingEngine(split.repository, names, { device: "webgpu", threads: 1 });
    const mixed = await device.run(requests);
    expect(mixed.tokens).toEqual(expected);
    for (const request of requests.filter((_, at) => at % 4 === 0)) {
      const alone = await device.run([request]);
      expect(alone.tokens.get(request[0])).toEqual(expected.get(request[0]));
      const bits = alone.rows.get(request[0])!.map((row) => [...new Uint32Array(row.slice().buffer)]);
      expect(mixed.rows.get(request[0])!.map((row) => [...new Uint32Array(row.slice().buffer)])).toEqual(bits);
    }
    await device.close();
    await split.remove();
  });
});
