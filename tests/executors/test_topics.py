"""Several listeners to one topic of Dask's."""

import asyncio

from l2l_dask.executors import topics


class FakeClient:
    """Does with topics what a client does, without a scheduler."""

    def __init__(self):
        self._event_handlers, self.subscribed = {}, set()

    def subscribe_topic(self, topic, handler):
        self._event_handlers[topic] = handler
        self.subscribed.add(topic)

    def unsubscribe_topic(self, topic):
        self.subscribed.discard(topic)

    def tell(self, event):
        async def tell():
            await self._event_handlers["all"](event)

        asyncio.run(tell())


def test_all_hear_also_what_the_user_subscribed_until_they_want_no_more():
    client, heard = FakeClient(), []

    async def theirs(event):
        heard.append(("theirs", event))

    def one(event):
        heard.append(("one", event))

    def two(event):
        heard.append(("two", event))

    client.subscribe_topic("all", theirs)
    topics.subscribe(client, "all", one)
    topics.subscribe(client, "all", two)
    client.tell(1)
    topics.unsubscribe(client, "all", one)
    topics.unsubscribe(client, "all", one)
    client.tell(2)
    assert heard == [("theirs", 1), ("one", 1), ("two", 1), ("theirs", 2), ("two", 2)]


def test_nobody_is_told_what_nobody_hears_and_one_may_hear_again():
    client, heard = FakeClient(), []
    topics.subscribe(client, "all", heard.append)
    topics.unsubscribe(client, "all", heard.append)
    assert client.subscribed == set()
    client.tell(1)  # which was under way
    topics.subscribe(client, "all", heard.append)
    client.tell(2)
    assert heard == [2]
    assert client.subscribed == {"all"}
