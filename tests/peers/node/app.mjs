// An application as its author would write it: the Vercel AI SDK with telemetry on, exported by OpenTelemetry's SDK,
// which is set up by the standard OTEL_* variables. The model answers from a script.
import { context, trace } from '@opentelemetry/api';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { generateText, stepCountIs, tool } from 'ai';
import { MockLanguageModelV2 } from 'ai/test';
import { z } from 'zod';

const sdk = new NodeSDK();
sdk.start();

const steps = [
  {
    content: [{ type: 'tool-call', toolCallId: 'call-1', toolName: 'weather', input: '{"city":"Paris"}' }],
    finishReason: 'tool-calls',
    usage: { inputTokens: 20, outputTokens: 5, totalTokens: 25 },
    warnings: [],
  },
  {
    content: [{ type: 'text', text: 'It is sunny in Paris.' }],
    finishReason: 'stop',
    usage: { inputTokens: 40, outputTokens: 7, totalTokens: 47 },
    warnings: [],
  },
];
const model = new MockLanguageModelV2({ modelId: 'mock-1', doGenerate: async () => steps.shift() });

const tracer = trace.getTracer('app');
const root = tracer.startSpan('POST /ask');
await context.with(trace.setSpan(context.active(), root), () =>
  generateText({
    model,
    prompt: 'Is it sunny in Paris?',
    tools: {
      weather: tool({
        description: 'The weather in a city',
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => ({ city, sky: 'clear' }),
      }),
    },
    stopWhen: stepCountIs(3),
    experimental_telemetry: { isEnabled: true, functionId: 'ask', metadata: { userId: 'ada' } },
  }),
);
root.end();
console.log(root.spanContext().traceId);
await sdk.shutdown();
