import { turnRuntimeTelemetryOff } from "./env.ts";

// Imported first wherever a process begins: modules that load ONNX Runtime come after it, and threads and children inherit it.
turnRuntimeTelemetryOff();
