// Loaded before the application (`node --import ./telemetry.mjs app.mjs`). OTEL_EXPORTER_OTLP_ENDPOINT and
// OTEL_SERVICE_NAME say where to send and who sends; without them spans go to http://localhost:4318.
import { registerTelemetry } from "ai";
import { OpenTelemetry } from "@ai-sdk/otel";
import { OpenAIInstrumentation } from "@arizeai/openinference-instrumentation-openai";
import { NodeSDK } from "@opentelemetry/sdk-node";
import OpenAI from "openai";

export const openai = new OpenAIInstrumentation();
const sdk = new NodeSDK({ instrumentations: [openai] });
sdk.start();

openai.manuallyInstrument(OpenAI); // ES modules are not patched on import
registerTelemetry(new OpenTelemetry()); // every AI SDK call from now on

process.once("beforeExit", () => sdk.shutdown());
