import { engineConfig } from "../engine/engine-config.ts";
import { wholeNumber } from "./parse-values.ts";

export const LANES_OPTION = {
  flags: "--lanes <count>",
  help: `share requests that run at once out among so many threads, where that is measured to be faster; models load more slowly and take twice their bytes of disk while they are loaded (default: ${engineConfig().lanes})`,
  parse: wholeNumber("--lanes", 1),
};
