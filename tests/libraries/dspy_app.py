"""DSPy: a prediction and a retrieval-augmented chain of thought."""

import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", cache=False))
dspy.Predict("question -> answer")(question="What does a weir do?")


class Rag(dspy.Module):
    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought("context, question -> answer")

    def forward(self, question):
        return self.respond(context=["A weir meters a river."], question=question)


Rag()(question="What does a weir do?")
