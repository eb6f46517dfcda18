import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** What is used of koffi 3. */
interface Koffi {
  config(options: object): void;
  load(path: string): { func(name: string, result: string, parameters: string[]): (...given: unknown[]) => unknown };
  view(pointer: unknown, bytes: number): ArrayBuffer;
  decode(pointer: unknown, type: unknown): (...given: unknown[]) => unknown;
  proto(result: string, parameters: string[]): unknown;
  address(memory: ArrayBufferView): bigint;
}

type ApiFunction = (...given: unknown[]) => unknown;

/** By place in OrtApi, to which functions are only ever appended; result and parameters. */
const FUNCTIONS = {
  CreateStatus: [0, "void *", ["int", "const char *"]],
  GetErrorCode: [1, "int", ["void *"]],
  GetErrorMessage: [2, "const char *", ["void *"]],
  CreateEnv: [3, "void *", ["int", "const char *", "void *"]],
  CreateSessionFromArray: [8, "void *", ["void *", "void *", "size_t", "void *", "void *"]],
  Run: [9, "void *", ["void *", "void *", "void *", "void *", "size_t", "void *", "size_t", "void *"]],
  CreateSessionOptions: [10, "void *", ["void *"]],
  DisableMemPattern: [17, "void *", ["void *"]],
  SetIntraOpNumThreads: [24, "void *", ["void *", "int"]],
  CreateTensorWithDataAsOrtValue: [49, "void *", ["void *", "void *", "size_t", "void *", "size_t", "int", "void *"]],
  CreateCpuMemoryInfo: [69, "void *", ["int", "int", "void *"]],
  ReleaseStatus: [93, "void", ["void *"]],
  AddSessionConfigEntry: [130, "void *", ["void *", "const char *", "const char *"]],
} as const satisfies Record<string, readonly [number, string, readonly string[]]>;

type Functions = Record<keyof typeof FUNCTIONS, ApiFunction>;

const heldLibraries = new Set<unknown>();

const API_VERSION = 24;
const TABLE_BYTES = 131 * 8;
const ELEMENT_CODES = { float32: 1, int32: 6 } as const;

/** A value over memory of JavaScript, which must outlive it. */
export interface NativeValue {
  handle: bigint;
  memory: ArrayBufferView;
}

export interface PreparedRun {
  run: () => void;
  /** What its addresses point to. */
  kept: unknown;
}

/** The C API of the library that onnxruntime-node has loaded, through koffi: memory of JavaScript without a copy, in and out. */
export class CApi {
  readonly #koffi: Koffi;
  readonly #functions: Functions;
  readonly #environment: bigint;
  readonly #memoryInfo: bigint;

  /** `project`: a folder where koffi is installed. Throws where it is not, and where the library is not what is expected. */
  constructor(project: string) {
    this.#koffi = createRequire(join(project, "package.json"))("koffi") as Koffi;
    // Native code runs on koffi's stacks; they cannot be changed once a library is loaded.
    this.#koffi.config({ sync_stack_size: 8 << 20, async_stack_size: 8 << 20 });
    const library = this.#koffi.load(libraryPath());
    // koffi unloads a library with its handle; functions that were decoded do not hold it.
    heldLibraries.add(library);
    const base = library.func("OrtGetApiBase", "void *", [])();
    const [getApi] = new BigUint64Array(this.#koffi.view(base, 16));
    const api = this.#koffi.decode(getApi, this.#koffi.proto("void *", ["uint32_t"]))(API_VERSION);
    if (!api) throw new Error(`the library is older than version ${API_VERSION} of its interface`);
    const table = new BigUint64Array(this.#koffi.view(api, TABLE_BYTES));
    this.#functions = Object.fromEntries(
      Object.entries(FUNCTIONS).map(([name, [place, result, parameters]]) => [
        name,
        this.#koffi.decode(table[place]!, this.#koffi.proto(result, [...parameters])),
      ]),
    ) as Functions;
    this.#testItself();
    this.#environment = this.#give("CreateEnv", 2, "bench");
    this.#memoryInfo = this.#give("CreateCpuMemoryInfo", 0, 0);
  }

  session(model: Uint8Array, threads: number): bigint {
    const options = this.#give("CreateSessionOptions");
    this.#call("SetIntraOpNumThreads", options, threads);
    this.#call("DisableMemPattern", options);
    this.#call("AddSessionConfigEntry", options, "session.intra_op.allow_spinning", "0");
    return this.#give("CreateSessionFromArray", this.#environment, model, model.byteLength, options);
  }

  value(memory: Float32Array | Int32Array, dims: number[]): NativeValue {
    const type = memory instanceof Float32Array ? ELEMENT_CODES.float32 : ELEMENT_CODES.int32;
    const sizes = BigInt64Array.from(dims, BigInt);
    const bytes = memory.byteLength;
    const address = this.#koffi.address(memory);
    const made = [this.#memoryInfo, address, bytes, sizes, dims.length, type] as const;
    return { handle: this.#give("CreateTensorWithDataAsOrtValue", ...made), memory };
  }

  /** A run whose names and values stay: everything is laid out once. */
  prepareRun(session: bigint, inputs: Record<string, NativeValue>, outputs: Record<string, NativeValue>): PreparedRun {
    const list = (values: Record<string, NativeValue>) => ({
      names: this.#texts(Object.keys(values)),
      handles: BigUint64Array.from(Object.values(values), ({ handle }) => handle),
      values,
    });
    const [given, taken] = [list(inputs), list(outputs)];
    const run = (): void => {
      const [from, to] = [given.handles, taken.handles];
      this.#call("Run", session, null, given.names.pointers, from, from.length, taken.names.pointers, to.length, to);
    };
    return { run, kept: [given, taken] };
  }

  /** Before anything dangerous is called: the functions that make and read a status are where they are expected. */
  #testItself(): void {
    const { CreateStatus, GetErrorCode, GetErrorMessage, ReleaseStatus } = this.#functions;
    const status = CreateStatus(2, "self test");
    const known = GetErrorCode(status) === 2 && GetErrorMessage(status) === "self test";
    ReleaseStatus(status);
    if (!known) throw new Error("OrtApi is not laid out as expected");
  }

  #call(name: keyof typeof FUNCTIONS, ...given: unknown[]): void {
    const status = this.#functions[name](...given);
    if (!status) return;
    const message = this.#functions.GetErrorMessage(status) as string;
    this.#functions.ReleaseStatus(status);
    throw new Error(`${name}: ${message}`);
  }

  /** What the function puts where its last parameter points. */
  #give(name: keyof typeof FUNCTIONS, ...given: unknown[]): bigint {
    const cell = new BigUint64Array(1);
    this.#call(name, ...given, cell);
    return cell[0]!;
  }

  #texts(texts: string[]): { pointers: BigUint64Array; kept: Uint8Array[] } {
    const kept = texts.map((text) => Buffer.from(`${text}\0`));
    return { pointers: BigUint64Array.from(kept, (each) => this.#koffi.address(each)), kept };
  }
}

function libraryPath(): string {
  const require = createRequire(import.meta.url);
  const root = dirname(require.resolve("onnxruntime-node/package.json"));
  const name = process.platform === "darwin" ? "libonnxruntime.1.dylib" : "libonnxruntime.so.1";
  return join(root, "bin", "napi-v6", process.platform, process.arch, name);
}
