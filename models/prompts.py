"""The 20 held-out prompts. Each is a conversation, given by its user turns; the training text avoids all of them."""

HELD_OUT = [
    ["So what exactly would an epoch be, then?"],
    ["I keep seeing the word lease. What does it stand for?"],
    ["In a nutshell, what is tensor parallelism about?"],
    ["Would you mind telling me what the relay does?"],
    ["could u explain the kv cache quickly"],
    ["Is there a reason why Axon stores events in DynamoDB?"],
    ["Which command do I have to type to get Axon going on my machine?"],
    ["My laptop lost the network in the middle of an answer. Is the rest gone?"],
    ["Suppose the leader is killed while it writes. What then?"],
    ["Please name the steps that a rollout goes through."],
    ["Time to first token and inter-token latency, how are they different?"],
    ["Who am I talking to right now?"],
    ["What is 17 times 23, roughly?"],
    ["Can you help me to choose a car?"],
    ["I need a story with an otter, could you write it?"],
    ["Please tell my daughter a tale about a dragon."],
    ["Let me hear a story about a rabbit and an owl, please."],
    [
        "What is meant by the word canary here?",
        "And why would anyone want that?",
        "Could you give one more example of it?",
    ],
    ["Hello guide, nice to see you!", "Explain to me what fencing is good for.", "Once more in easy words, please."],
    [
        "Good morning, they call me Clara.",
        "Describe what a projection would be.",
        "Thanks, that was clear. Do you still know my name?",
    ],
]
