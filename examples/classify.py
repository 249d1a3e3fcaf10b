"""Vectors as the features of a scikit-learn classifier.

The workers do the deep part; what is trained is a logistic regression, in milliseconds, on a few
sentences of each kind. Needs scikit-learn: ``pip install -e '.[examples]'``.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/classify.py
"""

from sklearn.linear_model import LogisticRegression

from bertq import BertClient

TRAIN = {
    "weather": [
        "It will rain all day tomorrow.",
        "The wind has dropped since noon.",
        "Snow is expected in the hills.",
        "A warm and sunny weekend lies ahead.",
        "Fog covered the valley this morning.",
        "The storm moved out to sea.",
    ],
    "food": [
        "Add a pinch of salt to the soup.",
        "The bread has to rise for an hour.",
        "We had fish with lemon and rice.",
        "This cake needs three eggs.",
        "The sauce was far too sweet.",
        "Roast the onions until they are brown.",
    ],
    "sport": [
        "They won the match in the last minute.",
        "She ran the marathon in three hours.",
        "The coach has left the team.",
        "He scored twice in the first half.",
        "The final is played on Saturday.",
        "Our goalkeeper is injured.",
    ],
}
TEST = {
    "weather": ["Clouds and showers in the north.", "The night was icy and clear."],
    "food": ["Boil the potatoes with their skin.", "The cheese tastes of nuts."],
    "sport": ["The striker missed a penalty.", "He came second in the long jump."],
}


def flat(data: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return the sentences, and the label of each."""
    pairs = [(sentence, label) for label, sentences in data.items() for sentence in sentences]
    return [sentence for sentence, _ in pairs], [label for _, label in pairs]


def main() -> None:
    """Train, and print what comes of sentences that were left out."""
    train_texts, train_labels = flat(TRAIN)
    test_texts, test_labels = flat(TEST)
    with BertClient() as client:
        train = client.encode(train_texts)  # [sentences, dim]
        test = client.encode(test_texts)

    classifier = LogisticRegression(max_iter=1000).fit(train, train_labels)
    for text, label in zip(test_texts, classifier.predict(test), strict=True):
        print(f"{label:8} {text}")
    accuracy = classifier.score(test, test_labels)
    print(f"accuracy {accuracy:.2f}: {len(test)} sentences, trained on {len(train)}")


if __name__ == "__main__":
    main()
