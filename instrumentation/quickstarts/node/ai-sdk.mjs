// The Vercel AI SDK: an agent with a tool, and a stream.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const { text } = await generateText({
  model: openai.chat("gpt-4o-mini"),
  instructions: "Be brief",
  prompt: "Is it sunny in Paris?",
  tools: {
    weather: tool({
      description: "The weather in a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => `sunny in ${city}`,
    }),
  },
  stopWhen: isStepCount(3),
});
console.log(text);

const stream = streamText({ model: openai.chat("gpt-4o-mini"), prompt: "Stream it" });
for await (const word of stream.textStream) process.stdout.write(word);
console.log();
