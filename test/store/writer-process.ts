/**
 * A process that adds models to a repository, for tests that run many or kill them:
 * `writer-process.ts <folder> <name prefix> <models> [forever]`. Says "ready" once it has begun.
 */
import { openRepository } from "../../src/store/open-repository.ts";
import { contents, storeParts } from "./make-model.ts";

const LAYERS = 3;
const [folder = "", prefix = "", models = "0", forever] = process.argv.slice(2);
const rounds = forever ? Infinity : 1;

const repository = await openRepository(folder, { create: true });
console.log("ready");
for (let round = 0; round < rounds; round++) {
  for (let number = 0; number < Number(models); number++) await addModel(number, round);
}

/** Layer 0 is everyone's, layer 1 that of every writer's model of this number, layer 2 new in every round. */
async function addModel(number: number, round: number): Promise<void> {
  const seeds = ["everyone", `number ${number}`, `${prefix} ${number} ${round}`];
  const layers = seeds
    .slice(0, LAYERS)
    .map((seed) => ({ norm: contents(`norm ${seed}`), weight: contents(seed, 100_000) }));
  // Over the size that is hashed in memory first, so that half-written files can be left behind.
  layers.push({ norm: contents("large norm"), weight: contents(seeds[2]!, 5 << 20) });
  await repository.putModel(`${prefix}-${number}`, await storeParts(repository, { layers }), { replace: true });
}
