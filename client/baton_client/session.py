"""What a conversation remembers."""

from collections.abc import Callable, Sequence

from baton_client.answers import Completion
from baton_client.prompts import Ask, GenerateOptions, Message, generate_ask, new_id


class History:
    """The messages of a conversation, oldest first, and the options of its turns.

    `id` begins the names of its requests. `messages` can be saved and given to
    `Client.session(messages=...)` later.
    """

    def __init__(self, messages: Sequence[Message], options: GenerateOptions) -> None:
        self.messages = list(messages)
        self.options = options
        self.id = new_id()

    def ask(self, text: str, options: GenerateOptions, model: str) -> Ask:
        """The request of a turn; its options come before the session's."""
        merged: GenerateOptions = {**self.options, **options}
        return generate_ask(self._with("user", text), merged, model, f"{self.id}.")

    def remember(self, text: str) -> Callable[[Completion], None]:
        """What to do with the answer to `text` once it is whole."""

        def remember(answer: Completion) -> None:
            self.messages = self._with("user", text)
            self.messages = self._with("assistant", answer.text)

        return remember

    def _with(self, role: str, content: str) -> list[Message]:
        return [*self.messages, Message(role=role, content=content)]


def opening(system: str | None, messages: Sequence[Message]) -> list[Message]:
    """How a conversation begins."""
    first = [] if system is None else [Message(role="system", content=system)]
    return [*first, *messages]
