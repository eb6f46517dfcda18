import { MemoryBlobStore } from "../../src/store/memory-blob-store.ts";
import { describeBlobStore } from "./blob-store.conformance.ts";

describeBlobStore("the memory store", async () => new MemoryBlobStore());
